//! Whatever is done to the audit afterwards is found and named.

use std::collections::HashMap;
use std::process::Command;

use mcp_authority::audit::{self, Finding, Verified};
use mcp_authority::signing::{self, Purpose};
use mcp_authority::{db, jobs};
use serde_json::json;
use sqlx::ConnectOptions;

use crate::support::node::SECRET_KEY;
use crate::support::{Node, TestDb};

/// What the service itself finds, without and with checkpoints that were kept elsewhere.
pub async fn verified(db: &TestDb, kept: &[String]) -> Verified {
    let mut connection = db.connection().await;
    let keys = signing::public_of(&mut connection, Purpose::Checkpoint).await.expect("keys");
    let keys: HashMap<_, _> =
        keys.into_iter().filter_map(|key| Some((key.kid, signing::decoding(&key.jwk)?))).collect();
    audit::verify(&mut connection, &|kid: &str| keys.get(kid).cloned(), kept).await.expect("verified")
}

/// A database with a story behind it, which nobody uses any more, and its two checkpoints.
async fn told() -> (TestDb, Vec<String>) {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let mut kept = Vec::new();
    for part in 0..2 {
        for name in 0..15 {
            let name = format!("Größe \"{part}\\{name}\" \u{1d11e}");
            operator.post(&node, "/v1/agents", json!({"name": "a", "owner": name})).await.created();
            let refused = operator.post(&node, "/v1/projects", json!({"name": "Wrong Name"})).await;
            refused.refused(422, "invalid_fields");
        }
        let written = "select count(*) from audit_entries where result = 'refused' and action like 'POST%'";
        node.until("all is recorded", async || db.count(written).await == 15 * (part + 1)).await;
        let mut tx = node.app.db.begin().await.expect("a transaction");
        kept.extend(jobs::sign_checkpoint(&node.app, &mut tx).await.expect("signed"));
        db::commit(tx).await.expect("committed");
    }
    node.stop().await;
    let clean = verified(&db, &kept).await;
    assert!(clean.findings.is_empty() && clean.entries >= 60 && clean.checkpoints >= 2, "{clean:?}");
    let differing = "select count(*) from (select *, lag(hash, 1, decode(repeat('00', 32), 'hex')) over
             (partition by chain order by position) as previous from audit_entries) e
         where hash <> audit_hash(previous, chain, position, at, body)";
    assert_eq!(db.count(differing).await, 0, "the database computes the same hashes as the binary");
    (db, kept)
}

/// Computes all hashes anew, as somebody would who may write everything in the database.
const RECOMPUTE: &str = "; do $$ declare e record; before bytea := decode(repeat('00', 32), 'hex'); begin
    for e in select * from audit_entries where chain = 'changes' order by position loop
        before := audit_hash(before, e.chain, e.position, e.at, e.body);
        update audit_entries set hash = before where id = e.id;
    end loop;
    update audit_chains set hash = before, position = (select max(position) from audit_entries where chain = 'changes')
     where chain = 'changes'; end $$";

/// What is done to the entries of the chain of changes, and how a finding about it begins.
const DONE_TO_ENTRIES: [(&str, &str); 14] = [
    (
        "update audit_entries set body = replace(body::text, 'agent', 'agenT')::json where HERE",
        "changed: entry 7 of changes",
    ),
    ("update audit_entries set body = (body::text || ' ')::json where HERE", "changed: entry 7 of changes"),
    ("update audit_entries set at = at + interval '1 microsecond' where HERE", "changed: entry 7 of changes"),
    ("update audit_entries set hash = sha256(hash) where HERE", "changed: entry 7 of changes"),
    ("update audit_entries set hash = null where HERE", "changed: entry 7 of changes"),
    ("update audit_entries set position = position + 1000 where HERE", "removed: entries 7 to 7 of changes"),
    ("update audit_entries set position = null where HERE", "removed: entries 7 to 7 of changes"),
    (
        "update audit_entries set chain = (select chain from audit_chains where chain <> 'changes'), position = 999 where HERE",
        "removed: entries 7 to 7 of changes",
    ),
    ("delete from audit_entries where HERE", "removed: entries 7 to 7 of changes"),
    (
        "update audit_entries set position = -1 where HERE;
      update audit_entries set position = 7 where chain = 'changes' and position = 8;
      update audit_entries set position = 8 where position = -1",
        "changed: entry 8 of changes",
    ),
    (
        "delete from audit_entries where chain = 'changes' and position > (select position - 10 from audit_chains where chain = 'changes')",
        "removed: entries ",
    ),
    (
        "delete from audit_entries where chain = 'changes' and position > (select position - 10 from audit_chains where chain = 'changes')RECOMPUTE",
        "removed: entries ",
    ),
    (
        "alter table audit_entries disable trigger audit_link;
      insert into audit_entries (chain, body) values ('changes', '{\"id\": \"evt_forged\"}')",
        "inserted: evt_forged",
    ),
    (
        "update audit_entries set body = replace(body::text, 'agent', 'agenT')::json where HERERECOMPUTE",
        "rewritten: checkpoint ",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_23_whatever_is_done_to_the_entries_is_found_and_named() {
    let (db, kept) = told().await;
    for (sql, finding) in DONE_TO_ENTRIES {
        let copy = db.copy().await;
        let sql = sql.replace("HERE", "chain = 'changes' and position = 7").replace("RECOMPUTE", RECOMPUTE);
        copy.execute(&sql).await;
        let found = verified(&copy, &[]).await.findings;
        assert!(found.iter().any(|found| found.to_string().starts_with(finding)), "{sql}\nfound {found:?}");
    }
    // An entry put between two others, everything after it moved on, every hash and every checkpoint made to fit:
    // only a checkpoint that was kept elsewhere tells.
    let copy = db.copy().await;
    let between = "alter table audit_entries disable trigger audit_link;
        update audit_entries set position = -position - 1 where chain = 'changes' and position >= 7;
        update audit_entries set position = -position where position < 0;
        insert into audit_entries (chain, position, body) values ('changes', 7, '{\"id\": \"evt_forged\"}');
        delete from audit_checkpoints; update audit_chains set covered = 0";
    copy.execute(&format!("{between}{RECOMPUTE}")).await;
    assert!(verified(&copy, &[]).await.findings.is_empty(), "nothing in the database itself can show it");
    let found = verified(&copy, &kept).await.findings;
    let rewritten = found.iter().filter(|found| matches!(found, Finding::Disagrees { .. })).count();
    assert_eq!(rewritten, 2, "both that were kept: {found:?}");
}

/// What is done to the checkpoints, and the number of the one that is found.
const DONE_TO_CHECKPOINTS: [(&str, i64); 7] = [
    ("delete from audit_checkpoints where number = 1", 1),
    ("update audit_checkpoints set number = 7 where number = 2", 2),
    ("update audit_checkpoints set jws = reverse(jws) where number = 1", 1),
    ("update audit_checkpoints set jws = overlay(jws placing 'A' from 150 for 1) where number = 2", 2),
    ("update audit_checkpoints set jws = (select jws from audit_checkpoints where number = 1) where number = 2", 2),
    ("update signing_keys set public_jwk = jsonb_set(public_jwk, '{x}', '\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"')
       where purpose = 'checkpoint'", 1),
    ("delete from audit_checkpoints where number = 2", 2),
];

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_23_a_checkpoint_that_is_forged_removed_or_renumbered_is_found() {
    let (db, kept) = told().await;
    for (sql, number) in DONE_TO_CHECKPOINTS {
        let copy = db.copy().await;
        copy.execute(sql).await;
        let found = verified(&copy, &kept).await.findings;
        assert!(found.contains(&Finding::Checkpoint { number }), "{sql}\nfound {found:?}");
    }
    let found = verified(&db, &["not.a.checkpoint".to_owned()]).await.findings;
    assert_eq!(found, [Finding::Checkpoint { number: 0 }], "what was kept must be a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_names_what_it_found_and_ends_with_7() {
    let (db, kept) = told().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("kept.txt");
    std::fs::write(&file, kept.join("\n")).expect("written");
    let verify = |db: &TestDb| {
        let command = Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
            .args(["audit", "verify", "--checkpoint"])
            .arg(&file)
            .env("MCPA_DATABASE_URL", db.options.to_url_lossy().as_str())
            .env("MCPA_SECRET_KEYS", SECRET_KEY)
            .output()
            .expect("it runs");
        (
            command.status.code(),
            String::from_utf8_lossy(&command.stdout).into_owned() + &String::from_utf8_lossy(&command.stderr),
        )
    };
    let (code, said) = verify(&db);
    assert!(code == Some(0) && said.contains("nothing was changed, removed, reordered or inserted"), "{code:?} {said}");
    let copy = db.copy().await;
    copy.execute("delete from audit_entries where chain = 'changes' and position = 9").await;
    let (code, said) = verify(&copy);
    assert!(code == Some(7) && said.contains("entries 9 to 9 of changes"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_grows_while_it_is_verified_is_not_mistaken_for_a_forged_one() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let growing = async {
        for _ in 0..80 {
            operator.post(&node, "/v1/agents", json!({"name": "a"})).await.created();
        }
    };
    let verifying = async {
        for _ in 0..40 {
            let found = verified(&db, &[]).await.findings;
            assert!(found.is_empty(), "{found:?}");
        }
    };
    tokio::join!(growing, verifying);
}
