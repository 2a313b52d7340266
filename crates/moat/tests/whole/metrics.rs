//! What is counted is what happened.

use std::time::Duration;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat};

/// The value of a line of `/metrics`.
fn value(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_exact_and_go_on_over_a_reload() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let calls = async |until: f64| {
        eventually("every call is counted", Duration::from_secs(5), || {
            let (status, text) = gateway.probe("/metrics");
            assert_eq!(status, 200);
            let line = "moat_calls_total{route=\"masked\",class=\"2xx\"}";
            (value(&text, line) == Some(until)).then_some(text)
        })
        .await
    };
    for _ in 0..10 {
        // Over connections of their own, so that both workers count.
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        assert_eq!(client.get("/masked/ok").await.status, 200);
        assert_eq!(client.get("/denied/x").await.status, 403);
    }
    let text = calls(10.0).await;
    let endpoint = format!("{{upstream=\"accounts\",endpoint=\"{}\"}}", service.address);
    for (line, expected) in [
        ("moat_calls_total{route=\"denied\",class=\"4xx\"}".to_owned(), 10.0),
        ("moat_call_seconds_count{route=\"masked\"}".to_owned(), 10.0),
        ("moat_refused_total{stage=\"authorize\",code=\"MOAT-P001\"}".to_owned(), 10.0),
        (format!("moat_upstream_tries_total{endpoint}"), 10.0),
        (format!("moat_upstream_failed_total{endpoint}"), 0.0),
        (format!("moat_upstream_breaker{endpoint}"), 0.0),
        (format!("moat_upstream_well{endpoint}"), 1.0),
        ("moat_config_generation".to_owned(), 1.0),
        ("moat_config_last_reload_successful".to_owned(), 1.0),
        ("moat_role_up{role=\"auditor\"}".to_owned(), 1.0),
        ("moat_workers_stalled".to_owned(), 0.0),
    ] {
        assert_eq!(value(&text, &line), Some(expected), "{line}\n{text}");
    }
    let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert!(families <= 80, "{families}");
    gateway.edit_config("protocol: http1", "protocol: http1\n    idle_ms: 1000");
    assert_eq!(gateway.reload().0, 0);
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let text = calls(11.0).await;
    assert_eq!(value(&text, &format!("moat_upstream_tries_total{endpoint}")), Some(11.0));
    assert_eq!(value(&text, "moat_config_generation"), Some(2.0));
    let (code, out, err) =
        moat(&["top", "--socket", &gateway.socket(), "--interval", "1", "--count", "1"]);
    assert_eq!(code, 0, "{err}");
    let shown = out.contains("masked") && out.contains("breaker closed");
    assert!(shown && out.contains(&service.address.to_string()), "{out}");
    let (_, out, _) = moat(&["status", "--socket", &gateway.socket()]);
    assert!(out.contains("upstream accounts"), "{out}");
}
