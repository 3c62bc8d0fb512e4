//! Administration: one file per noun. A handler reads, asks a room, answers.
#![expect(clippy::missing_errors_doc, reason = "what each handler refuses is in its OpenAPI description")]

pub mod agents;
pub mod audit;
pub mod claims;
pub mod clients;
pub mod consents;
pub mod flows;
pub mod issuers;
pub mod jobs;
pub mod keys;
pub mod leaks;
pub mod nodes;
pub mod operators;
pub mod projects;
pub mod providers;
pub mod revocations;
pub mod roles;
pub mod rotations;
pub mod servers;
pub mod sessions;
pub mod settings;
pub mod stream;
pub mod users;
pub mod webhooks;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Every route of `/v1` that an operator uses.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::change, projects::delete))
        .routes(routes!(operators::list, operators::create))
        .routes(routes!(operators::get, operators::change))
        .routes(routes!(operators::rotate))
        .routes(routes!(operators::revoke))
        .routes(routes!(servers::list, servers::create))
        .routes(routes!(servers::get, servers::change, servers::delete))
        .routes(routes!(servers::rotate))
        .routes(routes!(servers::grants))
        .routes(routes!(servers::setup::get))
        .routes(routes!(servers::withdraw))
        .routes(routes!(servers::tools::list, servers::tools::create, servers::tools::replace))
        .routes(routes!(servers::tools::get, servers::tools::change, servers::tools::remove))
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::get, agents::change, agents::delete))
        .routes(routes!(roles::list, roles::create))
        .routes(routes!(roles::get, roles::change, roles::delete))
        .routes(routes!(providers::list, providers::create))
        .routes(routes!(providers::get, providers::change, providers::delete))
        .routes(routes!(issuers::list, issuers::create))
        .routes(routes!(issuers::get, issuers::change, issuers::delete))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::get, keys::change))
        .routes(routes!(rotations::rotate))
        .routes(routes!(rotations::cancel))
        .routes(routes!(rotations::finish))
        .routes(routes!(claims::list, claims::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::events))
        .routes(routes!(clients::list, clients::create))
        .routes(routes!(clients::get, clients::change, clients::delete))
        .routes(routes!(clients::rotate))
        .routes(routes!(users::list))
        .routes(routes!(users::get, users::change))
        .routes(routes!(consents::list))
        .routes(routes!(consents::get))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::get))
        .routes(routes!(sessions::revoke))
        .routes(routes!(revocations::list, revocations::create))
        .routes(routes!(revocations::get))
        .routes(routes!(flows::list))
        .routes(routes!(flows::get))
        .routes(routes!(audit::list))
        .routes(routes!(audit::checkpoints))
        .routes(routes!(nodes::list))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(jobs::run))
        .routes(routes!(settings::get, settings::change))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::get, webhooks::change, webhooks::delete))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::resend))
}
