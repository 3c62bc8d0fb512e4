-- Owned by src/signing.
-- The keys we sign with: session tokens, and the audit's checkpoints.

create table signing_keys (
    kid          text        primary key,
    purpose      text        not null check (purpose in ('session', 'checkpoint')),
    alg          text        not null check (alg in ('EdDSA', 'ES256', 'RS256')),
    public_jwk   jsonb       not null check (not (public_jwk ?| array['d', 'p', 'q', 'k', 'dp', 'dq', 'qi'])),
    -- Sealed under the secret key named; bound to this table, row and column.
    secret_key   text        not null,
    private      bytea,
    created_at   timestamptz not null default authority_now(),
    -- Published from created_at on; signs from here on, until a younger one does.
    signs_from   timestamptz not null,
    -- Signs no more from here on; null while it is the newest.
    signs_until  timestamptz,
    revoked_at   timestamptz
);
create constraint trigger feed_signing_keys after insert or update or delete on signing_keys
    deferrable initially deferred for each row execute function feed_note('signing_key', 'kid');
