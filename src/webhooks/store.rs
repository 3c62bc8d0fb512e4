//! SQL of webhooks and of the outbox.

use serde_json::Value;
use sqlx::PgConnection;

use crate::db;
use crate::webhooks::Event;

/// One row for each who asked for it. Names and the owner come from where they are, so that whoever notes needs no look-up.
pub(super) async fn note(tx: &mut PgConnection, event: &Event) -> db::Result<()> {
    sqlx::query!(
        r#"with thing as (
             select k.id as key_id, k.name as key_name, k.environment, a.id as agent_id, a.name as agent_name, a.owner,
                    coalesce($4::text, a.project) as project
             from (select) as one left join keys k on k.id = $5::text left join agents a on a.id = coalesce($6::text, k.agent_id)
           ), wanted as (
             select w.id as webhook_id, null as mail_to, thing.* from thing
             join webhooks w on not w.disabled and (w.project is null or w.project = thing.project) and w.events && array['*', $2::text]
             union all
             -- An owner may be a team's name; mail goes to addresses only.
             select null, thing.owner, thing.* from thing
             where $7::boolean and length(thing.owner) <= 254 and thing.owner ~ '^[A-Za-z0-9.!#$%&''*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$'
               and exists (select from mailers where seen_at > authority_now() - interval '1 day')
           )
           insert into deliveries (id, event_id, type, webhook_id, mail_to, body)
           select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), $1::text, $2, webhook_id, mail_to, jsonb_build_object(
             'type', $2, 'timestamp', to_char(authority_now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
             'data', jsonb_strip_nulls(jsonb_build_object('project', project, 'key_id', key_id, 'key_name', key_name,
               'environment', environment, 'agent_id', agent_id, 'agent_name', agent_name, 'owner', owner, 'expires_at',
               (select to_char(max(s.expires_at) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') from secrets s where s.owner = key_id)))
             || $3::jsonb)::text
           from wanted"#,
        event.id.as_str(),
        event.kind.as_str(),
        Value::Object(event.data.clone()),
        event.project,
        event.key,
        event.agent,
        event.to_owner,
    )
    .execute(tx)
    .await?;
    Ok(())
}
