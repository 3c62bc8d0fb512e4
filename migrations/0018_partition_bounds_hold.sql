-- Owned by src/db/partitions.rs.
-- Reads both tables once, without stopping anybody.
alter table sessions validate constraint sessions_bound;
alter table audit_entries validate constraint audit_entries_bound;
