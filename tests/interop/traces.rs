//! Traces over OTLP/HTTP, as a collector receives them

use super::http_server;
use crate::support::process::{Service, free_port};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message;
use reqwest::Method;
use serde_json::json;
use std::sync::{Arc, Mutex};

/// The address of a collector, and every request that it received.
fn collector() -> (String, Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&collected);
    let address = http_server(move |head, body| {
        assert!(head.starts_with("post /v1/traces "), "{head}");
        received.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
        String::new()
    });
    (format!("http://{address}"), collected)
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Any> {
    attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn a_collector_receives_a_span_for_each_part_of_a_request() {
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let settings = [("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint), ("SIGNET__SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let mut service = Service::start(folder.path(), &settings);
    let credentials = json!({"email": "canary@example.com", "password": "canary horse battery"});
    assert_eq!(service.anon().post("/auth/create", &credentials).await.status, 201);
    let send = |request: reqwest::RequestBuilder| {
        let request = request.header("traceparent", format!("00-{TRACE:032x}-b7ad6b7169203331-01"));
        request.header("content-type", "application/json").body(credentials.to_string())
    };
    assert_eq!(service.anon().send(Method::POST, "/auth/signin", send).await.status, 200);
    service.anon().get("/nowhere").await;
    assert_eq!(service.end_with("TERM"), Some(0), "the shutdown sends the last spans");

    let collected = collected.lock().unwrap();
    let resources: Vec<_> = collected.iter().flat_map(|request| &request.resource_spans).collect();
    let service_name = attribute(&resources[0].resource.as_ref().unwrap().attributes, "service.name");
    assert_eq!(service_name, Some(&Any::StringValue("signet".to_owned())));
    let spans: Vec<&Span> =
        resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
    let sign_in = named("POST /auth/signin")[0];
    assert_eq!(sign_in.trace_id, TRACE.to_be_bytes(), "the span belongs to the trace of the client");
    assert_eq!(attribute(&sign_in.attributes, "http.response.status_code"), Some(&Any::IntValue(200)));
    assert_eq!(attribute(&sign_in.attributes, "http.route"), Some(&Any::StringValue("/auth/signin".to_owned())));
    for part in ["hash", "database"] {
        let of_it = named(part).into_iter().filter(|span| span.parent_span_id == sign_in.span_id);
        assert!(of_it.count() > 0, "{part} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    }
    assert_eq!(named("GET -").len(), 1);
    assert!(!format!("{collected:?}").contains("canary"), "no secret and no e-mail address");
}

/// Only a trusted proxy may choose the trace of a request.
#[tokio::test]
async fn a_traceparent_from_an_untrusted_client_is_ignored() {
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint)]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    service.anon().send(Method::GET, "/livez", |request| request.header("traceparent", trace)).await;
    assert_eq!(service.end_with("TERM"), Some(0));
    let collected = format!("{:?}", collected.lock().unwrap());
    let theirs = format!("{:?}", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert!(collected.contains("GET /livez") && !collected.contains(theirs.trim_matches(['[', ']'])), "{collected}");
}

#[tokio::test]
async fn an_unreachable_collector_delays_no_request_and_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    for _ in 0..20 {
        assert_eq!(service.anon().get("/readyz").await.status, 200);
    }
    assert_eq!(service.end_with("TERM"), Some(0));
    let log = service.log();
    assert_eq!(log.matches("the collector does not accept traces").count(), 1, "{log}");
}
