//! `contrib/nginx-site-cache.conf`: the hosts of a site share one download. Skipped where nginx is not installed.

use super::nginx::Nginx;
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::http::{free, send, try_get};
use crate::support::json::quote;
use crate::support::meta::Meta;
use crate::support::release_path;
use crate::support::tls::has;

/// A store with demo 1.0.0, and in front of it nginx with the file of contrib. A file counts as fresh for a second only.
fn store_and_cache(sandbox: &Host) -> Option<(Meta, Nginx)> {
    let store = Meta::start();
    let tarball = Agent::new("demo", "1.0.0").tarball(&sandbox.dir);
    store.publish("demo", "1.0.0", tarball);
    let addr = free("127.0.0.1");
    let mut conf = include_str!("../../contrib/nginx-site-cache.conf").to_owned();
    for (shipped, here) in [
        (
            "/var/cache/nginx/releases",
            format!("{}/cache", sandbox.dir.display()),
        ),
        ("listen 8080;", format!("listen {addr};")),
        ("http://store.example;", format!("http://{};", store.addr())),
        (
            "proxy_cache_valid 200 1m;",
            "proxy_cache_valid 200 1s;".to_owned(),
        ),
    ] {
        assert!(conf.contains(shipped), "{shipped}");
        conf = conf.replace(shipped, &here);
    }
    let cache = Nginx::run(sandbox, addr, conf.as_bytes())?;
    Some((store, cache))
}

/// Returns a host whose server desires demo from this store.
fn host_of_site(releases: &str) -> Host {
    let host = Host::new();
    host.desire(&[host.want("demo", "1.0.0").tarball(releases)]);
    host
}

/// Returns how often the store was asked for the tarball.
fn count_tarballs(store: &Meta) -> usize {
    let path = release_path("demo", "1.0.0");
    let downloads = store.downloads();
    downloads.iter().filter(|seen| seen.path == path).count()
}

#[test]
fn the_store_sends_a_release_once_for_all_hosts_of_a_site() {
    let sandbox = Host::new();
    let Some((store, cache)) = store_and_cache(&sandbox) else {
        return;
    };
    let mut hosts = [(); 3].map(|()| host_of_site(&cache.url("/releases")));
    for host in &mut hosts {
        host.set("interval", "60");
        host.start();
    }
    for host in &hosts {
        host.prompt();
    }
    for host in &hosts {
        host.wait_for("demo to run", || host.running("demo").len() == 1);
    }
    assert_eq!(count_tarballs(&store), 1);
}

#[test]
fn a_site_goes_on_while_its_store_is_away() {
    let sandbox = Host::new();
    let Some((store, cache)) = store_and_cache(&sandbox) else {
        return;
    };
    let mut first = host_of_site(&cache.url("/releases"));
    first.start();
    first.wait_running("demo", "1.0.0");
    drop(store);
    first.wait_for("the cache to do without the store", || {
        let path = release_path("demo", "1.0.0");
        let reply = try_get(&cache.addr, &path).expect("an answer");
        reply.header("X-Cache") == Some("STALE")
    });
    let mut second = host_of_site(&cache.url("/releases"));
    second.start();
    second.wait_running("demo", "1.0.0");
}

#[test]
fn a_file_that_was_replaced_is_not_kept_from_the_hosts() {
    let sandbox = Host::new();
    let Some((store, cache)) = store_and_cache(&sandbox) else {
        return;
    };
    for sum in ["of the first build", "of the second"] {
        store.put("/releases/sum", sum);
        sandbox.wait_for(sum, || {
            let reply = try_get(&cache.addr, "/releases/sum").expect("an answer");
            reply.body == sum
        });
    }
}

#[test]
fn what_is_sent_for_a_token_is_not_kept() {
    let sandbox = Host::new();
    let Some((store, cache)) = store_and_cache(&sandbox) else {
        return;
    };
    store.put("/releases/secret", "for those with a token");
    let with_token = "GET /releases/secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nConnection: close\r\n\r\n";
    let first = send(&cache.addr, with_token.as_bytes()).expect("an answer");
    assert_eq!(first.header("X-Cache"), Some("BYPASS"));
    let second = try_get(&cache.addr, "/releases/secret").expect("an answer");
    assert_eq!(second.header("X-Cache"), Some("MISS"));
}

#[test]
fn hosts_may_name_the_cache_as_their_proxy() {
    let sandbox = Host::new();
    let Some((store, cache)) = store_and_cache(&sandbox).filter(|_| has(&["curl"])) else {
        return;
    };
    let mut host = host_of_site("http://store.example/releases");
    host.set("proxy", &quote(&cache.url("")));
    host.set("no_proxy", &quote("127.0.0.1"));
    host.start();
    host.wait_running("demo", "1.0.0");
    assert_eq!(count_tarballs(&store), 1);
}
