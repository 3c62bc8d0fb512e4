//! A browser, as far as a provider's sign-in form needs one: cookies, redirects, forms.

use std::collections::BTreeMap;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use url::Url;

use crate::support::{CALLBACK, Certificates};

/// No sign-in takes more steps.
const STEPS_MAX: usize = 20;

pub(crate) struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new(certificates: &Certificates) -> Self {
        let pem = std::fs::read(certificates.file("ca.pem")).unwrap();
        let root = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = Client::builder().redirect(Policy::none()).no_proxy().tls_certs_only([root]).build().unwrap();
        Self { client, cookies: BTreeMap::new() }
    }

    /// Goes where a sign-in begins, signs in as `who` and agrees to all; gives the address it is sent back to.
    pub(crate) async fn signs_in(&mut self, url: &Url, who: &str) -> Url {
        let mut response = self.go(Method::GET, url, &[]).await;
        for _ in 0..STEPS_MAX {
            let here = response.url().clone();
            if let Some(location) = response.headers().get("location") {
                let next = here.join(location.to_str().unwrap()).unwrap();
                if next.as_str().starts_with(CALLBACK) {
                    return next;
                }
                response = self.go(Method::GET, &next, &[]).await;
                continue;
            }
            let page = response.text().await.unwrap();
            let action = here.join(attribute(&page, "action").unwrap_or_else(|| panic!("no form: {page}"))).unwrap();
            response = self.go(Method::POST, &action, &fields(&page, who)).await;
        }
        panic!("it never ended: {}", response.url());
    }

    /// Ends the session at the provider.
    pub(crate) async fn signs_out(&mut self, issuer: &str) {
        let page =
            self.go(Method::GET, &format!("{issuer}/session/end").parse().unwrap(), &[]).await.text().await.unwrap();
        let xsrf =
            page.split("name=\"xsrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        let action = attribute(&page, "action").unwrap().parse().unwrap();
        let response = self.go(Method::POST, &action, &[("xsrf", &xsrf), ("logout", "yes")]).await;
        assert!(response.status().is_redirection() || response.status().is_success(), "{}", response.status());
    }

    async fn go(&mut self, method: Method, url: &Url, form: &[(&str, &str)]) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.request(method.clone(), url.clone()).header("cookie", cookies.join("; "));
        if method == Method::POST {
            request = request.form(form);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }
}

/// What the page's form sends when `who` fills it in.
fn fields<'a>(page: &'a str, who: &'a str) -> Vec<(&'a str, &'a str)> {
    let inputs = page.split("<input").skip(1).filter_map(|rest| rest.split('>').next());
    let filled = |input: &'a str| {
        let name = attribute(input, "name")?;
        Some((name, if name == "login" { who } else { attribute(input, "value").unwrap_or("any") }))
    };
    inputs.filter_map(filled).collect()
}

fn attribute<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    page.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}
