//! The operations of the API, as its own description lists them.

use serde_json::Value;

/// An operation of `/v1` that an operator uses.
#[derive(Clone, Debug)]
pub struct Operation {
    pub id: String,
    pub method: reqwest::Method,
    /// With `{id}` where an id goes.
    pub path: String,
    /// The scope it needs; `None`: it is for a key's holder.
    pub scope: Option<String>,
    /// Whether it takes a JSON body.
    pub has_body: bool,
    /// The members of that body.
    pub members: Vec<String>,
    /// The parameters of its query.
    pub query: Vec<String>,
}

impl Operation {
    /// The path with these in place of `{…}`.
    pub fn at(&self, ids: &[&str]) -> String {
        let mut ids = ids.iter();
        let parts = self.path.split('/').map(|part| {
            if part == "{delivery_id}" {
                "dlv_00000000000000000000000000000000".to_owned()
            } else if part == "{tool_id}" {
                "tool_00000000000000000000000000000000".to_owned()
            } else if part.starts_with('{') {
                (*ids.next().expect("an id for each place")).to_owned()
            } else {
                part.to_owned()
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// The path with ids of the right kinds that nothing has.
    pub fn nowhere(&self) -> String {
        self.at(&[self.dummy(), "key_000000000000"])
    }

    fn dummy(&self) -> &'static str {
        match self.path.split('/').nth(2).unwrap_or_default() {
            "projects" => "nowhere",
            "operators" => "opr_000000000000",
            "servers" => "srv_000000000000",
            "keys" => "key_000000000000",
            "agents" => "agt_00000000000000000000000000000000",
            "clients" => "cli_00000000000000000000000000000000",
            "users" => "usr_00000000000000000000000000000000",
            "issuers" => "iss_00000000000000000000000000000000",
            "providers" => "idp_00000000000000000000000000000000",
            "roles" => "rol_00000000000000000000000000000000",
            "sessions" => "ses_00000000000000000000000000000000",
            "revocations" => "rev_00000000000000000000000000000000",
            "flows" => "flw_00000000000000000000000000000000",
            "consents" => "grt_00000000000000000000000000000000",
            "jobs" => "expire",
            "webhooks" => "whk_00000000000000000000000000000000",
            "audit" | "nodes" | "settings" => "none",
            noun => panic!("a new noun: {noun}; say what its ids look like"),
        }
    }
}

/// Every operation under `/v1`.
pub fn operations() -> Vec<Operation> {
    let api: Value = serde_json::from_str(&mcp_authority::http::openapi().to_json().expect("JSON")).expect("JSON");
    let mut found = Vec::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if path.starts_with("/v1/") {
                found.push(read(&api, path, method, operation));
            }
        }
    }
    assert!(found.len() > 40, "the description lists the routes");
    found
}

fn read(api: &Value, path: &str, method: &str, operation: &Value) -> Operation {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let schema = match schema["$ref"].as_str() {
        Some(reference) => api.pointer(reference.trim_start_matches('#')).expect("a schema"),
        None => schema,
    };
    let members = schema["properties"].as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
    Operation {
        id: operation["operationId"].as_str().expect("an id").to_owned(),
        method: method.to_uppercase().parse().expect("a method"),
        path: path.to_owned(),
        scope: operation["x-scope"].as_str().map(str::to_owned),
        has_body: operation["requestBody"].is_object(),
        members,
        query: query.filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned).collect(),
    }
}
