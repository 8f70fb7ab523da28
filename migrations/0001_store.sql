-- The store. A row's id is its commit's revision and its place in the commit: revision << 14 | place.

-- One row: where revisions and logs stand.
CREATE TABLE meta (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    reserved       INTEGER NOT NULL, -- revisions up to here may have been handed out
    clean          INTEGER NOT NULL, -- 1 after a clean shutdown
    boot_id        TEXT    NOT NULL, -- the boot in which the store was last in use
    oldest_main    INTEGER NOT NULL, -- watches cannot resume from before these
    oldest_short   INTEGER NOT NULL,
    oldest_history INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0, 1, '', 0, 0, 0);

-- Live objects: what is loaded at start.
CREATE TABLE object (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL, -- plural.group
    namespace TEXT    NOT NULL, -- '' beside the namespaces
    name      TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    body      BLOB    NOT NULL, -- JSON without resourceVersion; encrypted for sealed kinds
    UNIQUE (kind, namespace, name)
) STRICT;

-- Every commit that a log below still speaks of: when, who, why.
CREATE TABLE txn (
    revision    INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL, -- microseconds since 1970
    actor       TEXT    NOT NULL,
    manager     TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    cause       INTEGER,
    reason      TEXT    NOT NULL,
    seq_main    INTEGER NOT NULL, -- rows of each log written up to and with this commit
    seq_short   INTEGER NOT NULL,
    seq_history INTEGER NOT NULL,
    remembered  INTEGER NOT NULL  -- rows of the history in this commit
) STRICT;

-- Every change, for watches to resume.
CREATE TABLE change (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    deleted   INTEGER NOT NULL,
    body      BLOB    NOT NULL
) STRICT;

-- The same for chatty kinds (events), which must not push the others out.
CREATE TABLE change_short (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    deleted   INTEGER NOT NULL,
    body      BLOB    NOT NULL
) STRICT;

-- Spec and metadata over days, for undo and for "why".
CREATE TABLE history (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    uid       TEXT    NOT NULL,
    body      BLOB             -- NULL for a deletion
) STRICT;
CREATE INDEX history_of_object ON history (kind, namespace, name);
