//! What receivers of webhooks are sent, in the description of the API: each type of event, and what a receiver answers.

use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, OpenApi, Ref, Required, ResponseBuilder, ResponsesBuilder, Type};

use crate::webhooks::EventType;

const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "The event's id: the same in every attempt, and at every receiver."),
    ("webhook-timestamp", "When this attempt began, in seconds since 1970."),
    ("webhook-signature", "One signature of each key, the newest first: `v1a,…` or `v1,…`, separated by spaces."),
];

/// Adds them (OpenAPI 3.1, `webhooks`).
pub(super) fn add(api: &mut OpenApi) {
    let described = |paths: PathsBuilder, kind: &EventType| {
        paths.path(kind.as_str(), PathItem::new(HttpMethod::Post, operation(kind.as_str())))
    };
    let paths = EventType::ALL.iter().fold(PathsBuilder::new(), described);
    api.webhooks = Some(paths.build());
}

fn operation(kind: &str) -> OperationBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let message = ContentBuilder::new().schema(Some(Ref::from_schema_name("EventMessage"))).build();
    let body = RequestBodyBuilder::new().content("application/json", message).required(Some(Required::True)).build();
    let answer = |words: &str| ResponseBuilder::new().description(words).build();
    let answers = ResponsesBuilder::new()
        .response("2XX", answer("Taken."))
        .response("410", answer("Nothing more is wanted: the webhook is switched off."))
        .build();
    let header = |operation: OperationBuilder, (name, what): (&str, &str)| {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::True);
        operation.parameter(parameter.description(Some(what)).schema(Some(text())))
    };
    let operation = OperationBuilder::new()
        .summary(Some(format!("`{kind}`, as docs/webhooks.md says.")))
        .request_body(Some(body))
        .responses(answers);
    HEADERS.into_iter().fold(operation, header)
}
