//! The cost of an answer from memory, next to what it cannot be cheaper than: one HMAC, one signature check.
//!
//! One thread, no network: what HTTP adds is not in it. Medians of several rounds, because machines are noisy; read the
//! ratios first.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may end by panicking")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use mcp_authority::gate::{
    Agent, Asker, Claims, Grant, Key, Live, Position, Question, Round, SecretKeyId, Secrets, Server, SessionVerifier,
    Verdict, Version, introspect,
};
use mcp_authority::types::alg::Alg;
use mcp_authority::types::clock::{BootInstant, Timestamp, wall_clock};
use mcp_authority::types::credential::{Credential, Kind};
use mcp_authority::types::environment::Environment;
use mcp_authority::types::id::{AgentId, KeyId, ServerId, SessionId};
use mcp_authority::types::keyring::Keyring;
use mcp_authority::types::permission::Permissions;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use zeroize::Zeroizing;

const KEYS: usize = 100_000;
const ROUNDS: usize = 15;
const CALLS: u32 = 2_000;

/// A memory with many keys, one of which is shown.
struct World {
    live: Live,
    server: Arc<Server>,
    shown: Credential,
    token: String,
    verifier: jsonwebtoken::DecodingKey,
}

/// What a call takes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) nanos: u64,
    /// What it cannot be cheaper than.
    pub(crate) ceiling: &'static str,
    pub(crate) ceiling_nanos: u64,
}

pub(crate) fn measure() -> Vec<Call> {
    crate::say("the gate, in memory");
    let world = World::new();
    let asker = Asker::Server(&world.server);
    let ask = |token: &str, good: bool| {
        let question = Question { token, asker, address: None };
        let active = world.live.answer(|view| matches!(introspect(view, question), Verdict::Active(_))).unwrap();
        assert_eq!(active, good);
    };
    let pepper = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let unknown = Credential::generate(Kind::Key(Environment::Prod), b"unknown00000");
    let (signed, signature) = world.token.rsplit_once('.').unwrap();
    let hmac = median(|| {
        black_box(hmac::sign(&pepper, black_box(world.shown.reveal().as_bytes())));
    });
    let verify = median(|| {
        let algorithm = jsonwebtoken::Algorithm::EdDSA;
        assert!(jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &world.verifier, algorithm).unwrap());
    });
    let of_hmac = |name, nanos| Call { name, nanos, ceiling: "one HMAC-SHA-256", ceiling_nanos: hmac };
    let of_verify = |name, nanos| Call { name, nanos, ceiling: "one EdDSA check", ceiling_nanos: verify };
    vec![
        of_hmac("one HMAC-SHA-256", hmac),
        of_verify("one EdDSA check", verify),
        of_hmac("introspect an API key", median(|| ask(world.shown.reveal(), true))),
        of_hmac("introspect an unknown key", median(|| ask(unknown.reveal(), false))),
        of_verify("introspect a session token", median(|| ask(&world.token, true))),
        of_hmac("introspect garbage", median(|| ask("garbage", false))),
    ]
}

/// The median over all rounds of the time of one call.
fn median(call: impl Fn()) -> u64 {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = processor();
            for _ in 0..CALLS {
                call();
            }
            processor().saturating_sub(began) / CALLS
        })
        .collect();
    rounds.sort_unstable();
    u64::try_from(rounds[ROUNDS / 2].as_nanos()).unwrap()
}

/// The processor time of this thread: what others do on the machine is not in it.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

impl World {
    fn new() -> Self {
        let keyring = Arc::new(Keyring::new(&[Zeroizing::new([1; 32])]).unwrap());
        let pepper = keyring.ids().remove(0);
        let live = Live::new("https://auth.example.com/oauth", Arc::clone(&keyring));
        let (agent, server_id) = (AgentId::random(), ServerId::random());
        let permissions = Permissions::parse(["tools/call:search_*", "tools/list"]).unwrap();
        let server = Server {
            id: server_id,
            project: "default".into(),
            resource: "https://files.example.com/mcp".into(),
            environment: Environment::Prod,
            scopes: Vec::new(),
            alg: Alg::EdDsa,
            disabled: false,
            secrets: Secrets::default(),
            tools: Arc::default(),
        };
        live.change(|memory| {
            memory.agents.insert(agent, Arc::new(Agent { project: "default".into(), disabled: false }));
            memory.servers.insert(server_id, Arc::new(server));
        });
        let grants: Arc<[Grant]> = [Grant { server: server_id, permissions: permissions.clone() }].into();
        let make = |id: KeyId, credential: &Credential| Key {
            id,
            agent,
            environment: Environment::Prod,
            direct: true,
            disabled: false,
            revoked: false,
            allowed: None,
            grants: Arc::clone(&grants),
            roles: Arc::default(),
            secrets: Secrets::from_iter([Version {
                number: 1,
                secret_key: SecretKeyId::of(&pepper),
                digest: keyring.digest(&pepper, credential.reveal()).unwrap(),
                created: Timestamp::from_seconds(0),
                expires: Timestamp::NEVER,
            }]),
        };
        let id = KeyId::random();
        let twelve: [u8; 12] = *id.as_str().as_bytes().last_chunk().unwrap();
        let shown = Credential::generate(Kind::Key(Environment::Prod), &twelve);
        let others = (1..KEYS).map(|_| {
            let id = KeyId::random();
            (id, Arc::new(make(id, &shown)))
        });
        live.change(|memory| memory.keys = others.chain([(id, Arc::new(make(id, &shown)))]).collect());
        let (token, verifier) = Self::token(&live, (agent, id, server_id), &permissions);
        let lease = Duration::from_hours(1);
        let (sent, wall) = (BootInstant::now(), wall_clock());
        let position = Position { history: 1, number: 1 };
        live.publish(Round { sent, wall, database: Timestamp::from_seconds(1_000), lease, position });
        let server = Arc::clone(live.memory().servers.get(&server_id).unwrap());
        Self { live, server, shown, token, verifier }
    }

    /// A session token, signed by a key that the memory knows.
    fn token(
        live: &Live,
        (agent, key, server): (AgentId, KeyId, ServerId),
        permissions: &Permissions,
    ) -> (String, jsonwebtoken::DecodingKey) {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap().public_key().as_ref().to_vec();
        let claims = Claims {
            iss: live.issuer.to_string(),
            sub: agent.to_string(),
            aud: "https://files.example.com/mcp".to_owned(),
            client_id: key.to_string(),
            jti: SessionId::random(),
            iat: 1_000,
            exp: 100_000,
            scope: permissions.to_scope(),
            permissions: permissions.clone(),
            agent_id: Some(agent),
            environment: Environment::Prod,
            key_id: Some(key),
            act: None,
            cnf: None,
            srv: server,
            kv: Some(1),
            anc: Vec::new(),
            pos: "1.1".to_owned(),
        };
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        (header.typ, header.kid) = (Some("at+jwt".to_owned()), Some("bench".to_owned()));
        let signing = jsonwebtoken::EncodingKey::from_ed_der(pkcs8.as_ref());
        let verifier = jsonwebtoken::DecodingKey::from_ed_der(&public);
        live.verifiers.store(Arc::new(vec![SessionVerifier {
            kid: "bench".into(),
            alg: Alg::EdDsa,
            key: verifier.clone(),
            jwk: serde_json::Value::Null,
        }]));
        (jsonwebtoken::encode(&header, &claims, &signing).unwrap(), verifier)
    }
}
