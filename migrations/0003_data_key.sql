-- The keys that sealed bodies are encrypted with: one for each namespace, each encrypted ("wrapped") with the key of the key file.
CREATE TABLE data_key (
    id        INTEGER PRIMARY KEY, -- random; 0 for the key that older appms used for everything
    namespace TEXT    NOT NULL,
    wrapping  TEXT    NOT NULL,    -- the name of the key that it is wrapped with
    wrapped   BLOB,                -- NULL where an older appm sealed with the key file's key itself
    retired   INTEGER NOT NULL     -- 1: nothing new is sealed with it; it goes when no body needs it
) STRICT;
INSERT INTO data_key SELECT 0, '', '', NULL, 1 WHERE
    EXISTS (SELECT 1 FROM object WHERE kind = 'secrets') OR EXISTS (SELECT 1 FROM change WHERE kind = 'secrets')
    OR EXISTS (SELECT 1 FROM history WHERE kind = 'secrets' AND body IS NOT NULL);
