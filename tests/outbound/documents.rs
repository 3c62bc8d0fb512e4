//! Documents are fetched once, kept while good, outlive a host that is away, and never a host that says no.

use std::time::Duration;

use mcp_authority::outbound::{Documents, Error, FAILED_FOR, FRESH_UNSAID, Failure, RENEWED_AFTER, STALE_MAX, Shape};
use mcp_authority::types::clock::BootInstant;
use url::Url;

use crate::support::{Reply, Server, patient, until, within};

/// Just after something ended.
const AFTER: Duration = Duration::from_secs(1);

type Texts = Documents<String, &'static str>;

fn read(_: &Url, bytes: &[u8]) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if text.starts_with("bad") { Err("it is bad") } else { Ok(text) }
}

fn documents(server: &Server, count_max: usize) -> Texts {
    Documents::new(server.outbound(patient()), Shape { bytes_max: 1_024, count_max, read })
}

fn start() -> BootInstant {
    BootInstant::START.plus(Duration::from_hours(1))
}

async fn get(texts: &Texts, url: &Url, now: BootInstant) -> Result<String, Failure<&'static str>> {
    within(texts.get(url, now)).await.map(|text| text.as_str().to_owned())
}

#[tokio::test]
async fn a_document_is_fetched_once_for_all_who_ask_at_once() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/wait"));
    server.replies(Reply::json("one"));
    let asking = futures_util::future::join_all((0..50).map(|_| texts.get(&url, start())));
    let letting = async {
        until("somebody asks", || server.asked() == 1).await;
        server.room.leave.add_permits(50);
    };
    let (found, ()) = within(async { tokio::join!(asking, letting) }).await;
    assert!(found.into_iter().all(|text| *text.unwrap() == "one"));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_failure_too_is_found_once_for_all_who_ask_at_once() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/wait"));
    server.replies(Reply::json("bad"));
    let asking = futures_util::future::join_all((0..50).map(|_| texts.get(&url, start())));
    let letting = async {
        until("somebody asks", || server.asked() == 1).await;
        server.room.leave.add_permits(50);
    };
    let (found, ()) = within(async { tokio::join!(asking, letting) }).await;
    assert!(found.into_iter().all(|text| text.unwrap_err() == Failure::Invalid("it is bad")));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn who_gives_up_leaves_the_fetch_to_the_next() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/wait"));
    server.replies(Reply::json("one"));
    let given_up = async {
        tokio::select! {
            _ = texts.get(&url, start()) => panic!("nobody let it go"),
            () = until("the first asks", || server.asked() == 1) => {}
        }
    };
    let next = async {
        until("the first asks", || server.asked() == 1).await;
        let next = texts.get(&url, start());
        let letting = async {
            until("the next asks", || server.asked() == 2).await;
            server.room.leave.add_permits(2);
        };
        tokio::join!(next, letting).0
    };
    let ((), found) = Box::pin(within(async { tokio::join!(given_up, next) })).await;
    assert_eq!(*found.unwrap(), "one");
}

#[tokio::test]
async fn a21_a_document_is_kept_as_long_as_its_headers_say() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/a"));
    for (control, fresh) in [("max-age=600", 600), ("max-age=1", 60), ("no-store", 60), ("max-age=9999999", 86_400)] {
        let texts = documents(&server, 10);
        server.replies(Reply::json("one").with("cache-control", control));
        let before = server.asked();
        assert_eq!(get(&texts, &url, start()).await.unwrap(), "one");
        server.replies(Reply::json("two"));
        let last = start().plus(Duration::from_secs(fresh - 1));
        assert_eq!(get(&texts, &url, last).await.unwrap(), "one", "{control}");
        assert_eq!(get(&texts, &url, last.plus(AFTER)).await.unwrap(), "two", "{control}");
        assert_eq!(server.asked() - before, 2);
    }
    assert!(texts.is_empty());
}

#[tokio::test]
async fn a21_a_failure_is_kept_for_a_short_time_and_never_as_a_document() {
    let server = Server::start().await;
    let url = server.url("/a");
    for (reply, failure) in [
        (Reply::status(404), Failure::Fetch(Error::Status(404))),
        (Reply::status(503), Failure::Fetch(Error::Status(503))),
        (Reply::status(302), Failure::Fetch(Error::Redirected)),
        (Reply::json(vec![b'x'; 1_025]), Failure::Fetch(Error::TooLarge)),
        (Reply::json("{}").with("content-type", "text/html"), Failure::Fetch(Error::NotJson)),
        (Reply::json("bad").with("cache-control", "max-age=86400"), Failure::Invalid("it is bad")),
    ] {
        let texts = documents(&server, 10);
        let before = server.asked();
        server.replies(reply);
        let last = start().plus(FAILED_FOR.saturating_sub(AFTER));
        for now in [start(), start(), last] {
            assert_eq!(get(&texts, &url, now).await.unwrap_err(), failure);
        }
        assert_eq!(server.asked() - before, 1, "{failure}");
        assert!(texts.is_empty());
        server.replies(Reply::json("one"));
        assert_eq!(get(&texts, &url, last).await.unwrap_err(), failure);
        assert_eq!(get(&texts, &url, last.plus(AFTER)).await.unwrap(), "one");
    }
}

#[tokio::test]
async fn p9_a_good_document_outlives_a_host_that_is_away_for_a_bounded_time() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/a"));
    server.replies(Reply::json("one"));
    assert_eq!(get(&texts, &url, start()).await.unwrap(), "one");
    server.replies(Reply::status(503));
    let over = start().plus(FRESH_UNSAID);
    let before = server.asked();
    for now in [over, over, over.plus(FAILED_FOR.saturating_sub(AFTER))] {
        assert_eq!(get(&texts, &url, now).await.unwrap(), "one");
    }
    // The host is not asked each time while it is away.
    assert_eq!(server.asked() - before, 1);
    let last = over.plus(STALE_MAX.saturating_sub(AFTER));
    assert_eq!(get(&texts, &url, last).await.unwrap(), "one");
    let failure = get(&texts, &url, last.plus(AFTER)).await.unwrap_err();
    assert_eq!(failure, Failure::Fetch(Error::Status(503)));
    server.replies(Reply::json("two"));
    assert_eq!(get(&texts, &url, last.plus(AFTER).plus(FAILED_FOR)).await.unwrap(), "two");
}

#[tokio::test]
async fn p9_a_document_that_is_gone_or_became_bad_is_gone_at_once() {
    let server = Server::start().await;
    let url = server.url("/a");
    for reply in
        [Reply::status(404), Reply::status(410), Reply::status(301), Reply::json("bad"), Reply::json(vec![b'x'; 2_000])]
    {
        let texts = documents(&server, 10);
        server.replies(Reply::json("one"));
        get(&texts, &url, start()).await.unwrap();
        server.replies(reply.clone());
        let over = start().plus(FRESH_UNSAID);
        get(&texts, &url, over).await.unwrap_err();
        // Not even a host that is away afterwards brings it back.
        server.replies(Reply::status(503));
        get(&texts, &url, over.plus(FAILED_FOR)).await.unwrap_err();
        // A document that forbids it does not outlive its time.
        server.replies(Reply::json("two").with("cache-control", "max-age=60, must-revalidate"));
        let again = over.plus(2 * FAILED_FOR);
        assert_eq!(get(&texts, &url, again).await.unwrap(), "two");
        server.replies(Reply::status(503));
        get(&texts, &url, again.plus(Duration::from_mins(1))).await.unwrap_err();
    }
}

#[tokio::test]
async fn attack_20_documents_are_bounded_in_number_and_failures_throw_none_out() {
    let server = Server::start().await;
    let texts = documents(&server, 64);
    server.replies(Reply::json("one").with("cache-control", "max-age=86400"));
    let good = server.url("/good");
    get(&texts, &good, start()).await.unwrap();
    server.replies(Reply::status(404));
    for number in 0..300 {
        get(&texts, &server.url(&format!("/{number}")), start()).await.unwrap_err();
    }
    let before = server.asked();
    assert_eq!(get(&texts, &good, start()).await.unwrap(), "one");
    assert_eq!((server.asked(), texts.len()), (before, 1));
    server.replies(Reply::json("x"));
    for number in 300..600 {
        get(&texts, &server.url(&format!("/{number}")), start()).await.unwrap();
    }
    assert!(texts.len() <= 64, "{}", texts.len());
}

#[tokio::test]
async fn a_fresh_document_is_renewed_once_in_a_while_whatever_is_met() {
    let server = Server::start().await;
    let (texts, url) = (documents(&server, 10), server.url("/keys"));
    let renew = async |now| within(texts.renew(&url, now)).await.map(|text| text.as_str().to_owned());
    server.replies(Reply::json("one"));
    assert_eq!(renew(start()).await, Ok("one".to_owned()), "one that is not known yet is fetched");
    server.replies(Reply::json("two"));
    for _ in 0..50 {
        assert_eq!(renew(start().plus(RENEWED_AFTER.saturating_sub(AFTER))).await, Ok("one".to_owned()));
    }
    assert_eq!(server.asked(), 1, "a flood of unknown keys asks for nothing");
    let later = start().plus(RENEWED_AFTER);
    assert_eq!(get(&texts, &url, later).await, Ok("one".to_owned()), "nobody else asks while it is fresh");
    assert_eq!(renew(later).await, Ok("two".to_owned()));
    assert_eq!(server.asked(), 2);
    // A host that is away takes nothing from those who need no newer one.
    server.replies(Reply::status(503));
    let away = later.plus(RENEWED_AFTER);
    assert_eq!(renew(away).await, Ok("two".to_owned()));
    assert_eq!(get(&texts, &url, away).await, Ok("two".to_owned()));
    assert_eq!(server.asked(), 3);
    assert_eq!(renew(away.plus(FAILED_FOR.saturating_sub(AFTER))).await, Ok("two".to_owned()));
    assert_eq!(server.asked(), 3, "nor is a failure asked for again at once");
}
