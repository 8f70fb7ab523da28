-- What the audit log had come to when it was last looked at: it cannot be cut shorter than this unseen.
CREATE TABLE audit (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    first INTEGER NOT NULL, -- the oldest record that is kept
    seq   INTEGER NOT NULL, -- the newest one
    hash  TEXT    NOT NULL  -- and its hash
) STRICT;
