-- Versions that no retention removes. The row of the history stays as long as a pin speaks of it.
CREATE TABLE pin (
    kind      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    pin       TEXT    NOT NULL, -- what the version is called
    id        INTEGER NOT NULL, -- of its row
    at        INTEGER NOT NULL, -- microseconds since 1970
    actor     TEXT    NOT NULL,
    PRIMARY KEY (kind, namespace, name, pin)
) STRICT;
CREATE INDEX pin_of_row ON pin (id);

-- Bytes of the history written up to and with this commit, so that its size is a difference.
ALTER TABLE txn ADD COLUMN bytes_history INTEGER NOT NULL DEFAULT 0;

-- From here on it is known what stood when. An older appm removed versions by their age though they still stood: what it left of
-- the past has holes, and each object that it left no version of stands as it did when the history began.
ALTER TABLE meta ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;
UPDATE meta SET whole = (SELECT coalesce(max(revision), 0) FROM txn) WHERE oldest_history > 0;
-- Their commits, where they are still there, are not those of what stands.
DELETE FROM txn WHERE revision <= (SELECT oldest_history FROM meta);
INSERT OR IGNORE INTO history
SELECT ((SELECT oldest_history FROM meta) + 1 << 14) - row_number() OVER (ORDER BY o.id), o.kind, o.namespace, o.name,
       CASE WHEN json_valid(CAST(o.body AS TEXT)) THEN coalesce(json_extract(CAST(o.body AS TEXT), '$.metadata.uid'), '') ELSE '' END,
       o.body
FROM object o
WHERE (SELECT oldest_history FROM meta) > 0 AND o.kind NOT IN ('events', 'leases.coordination.k8s.io')
  AND NOT EXISTS (SELECT 1 FROM history h WHERE h.kind = o.kind AND h.namespace = o.namespace AND h.name = o.name);
