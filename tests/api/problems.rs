//! Problems: each code is explained at the place that `type` leads to, with the status that it is sent with.

use std::collections::BTreeMap;

use mcp_authority::http::problem::status;
use mcp_authority::refusal::Code;
use reqwest::Method;

use crate::support::{Node, TestDb};

const PAGE: &str = include_str!("../../docs/problems.md");

/// The sections of the page by their heading.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let parts = PAGE.split("\n## ").skip(1);
    parts.map(|part| part.split_once('\n').expect("a heading and a text")).collect()
}

#[test]
fn every_code_has_a_section_that_tells_its_status_and_what_to_do() {
    let sections = sections();
    for code in Code::ALL {
        let text = sections.get(code.as_str()).unwrap_or_else(|| panic!("no section `## {}`", code.as_str()));
        assert!(text.contains(&format!("Status {}.", status(code).as_u16())), "{}", code.as_str());
        let paragraphs = text.trim().split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).count();
        assert!(paragraphs >= 2, "{}: what it means, and what to do", code.as_str());
    }
    assert_eq!(sections.len(), Code::ALL.len(), "a section of a code that is no more, or twice the same");
}

#[test]
fn the_table_of_codes_is_the_table_of_the_service() {
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| [")).collect();
    let wanted: Vec<String> =
        Code::ALL.iter().map(|code| format!("| [{0}](#{0}) | {1} |", code.as_str(), status(*code).as_u16())).collect();
    assert_eq!(rows, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_a_problem_leads_to_its_section() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let refused = node.send(node.request(Method::GET, "/v1/keys")).await.refused(401, "unauthenticated");
    assert_eq!(refused["type"], "/docs/problems#unauthenticated");
    assert_eq!(refused["title"], "unauthenticated");
    assert_eq!(refused["status"], 401);
    let page = node.send(node.request(Method::GET, "/docs/problems")).await;
    assert_eq!(page.text, PAGE);
    for code in Code::ALL {
        let route = mcp_authority::http::problem::Problem::from(code).kind;
        assert_eq!(route, format!("/docs/problems#{}", code.as_str()));
    }
    node.stop().await;
}
