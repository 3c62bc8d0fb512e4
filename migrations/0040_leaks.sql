-- Owned by src/settings.
-- Who may report leaks, and what is done with what they report. Off: nobody is believed.

alter table settings
    add column leaks jsonb not null default '{"reporters": [], "prod": "revoke", "dev": "revoke", "operators": "revoke"}'
        check (jsonb_typeof(leaks) = 'object');
