-- The revision at which the object stood before a change: 0 where there was none, NULL where an older appm wrote the row.
-- A watch that resumes from here can then tell what is new from what is changed, and what came into a selection.
ALTER TABLE change ADD COLUMN before INTEGER;
ALTER TABLE change_short ADD COLUMN before INTEGER;
