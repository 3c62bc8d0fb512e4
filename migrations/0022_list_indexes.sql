-- Owned by src/db.
-- What lists need, so that none of them reads or sorts a whole table.
create index projects_created on projects (created_at desc, id desc);
-- Deleted agents' keys are listed too.
create index agents_of_project on agents (project);
create index operators_projects on operators using gin (projects);
-- A role's keys in the order in which the grants on a server are listed.
create index key_roles_role_key on key_roles (role_id, key_id);
drop index key_roles_role;
-- The same look-ups as before, and lists of what was done to one thing, of whatever kind.
create index revocations_target_kind on revocations (target, kind);
drop index revocations_target;
create index revocations_kind on revocations (kind, at desc, id desc);
create index revocations_project on revocations (project, at desc, id desc) where project is not null;
