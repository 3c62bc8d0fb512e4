-- Owned by src/proofs.
-- Proofs of possession (RFC 9449), and what other rooms keep of the keys that were proved.
set local lock_timeout = '5s';

-- Proofs that were shown, until their time is over: each is good once, on whatever node (RFC 9449 §11.1).
create table proofs (
    -- SHA-256 of the key's thumbprint and the `jti`.
    digest     bytea       primary key check (length(digest) = 32),
    expires_at timestamptz not null
);
create index proofs_expires on proofs (expires_at);

-- The key that a refresh token is bound to. Each token has its own: one that was given out without a key stays what it was
-- when its successor gets one.
alter table refresh_tokens add column jkt text check (length(jkt) = 43);
alter table refresh_families drop column jkt;

-- Whether proofs must hold a nonce of ours.
alter table settings add column dpop_nonce_required boolean not null default false;
