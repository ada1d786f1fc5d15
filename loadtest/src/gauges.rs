//! The server's own figures, read from `/metrics` while it runs.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const TIME: Duration = Duration::from_millis(800);
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// What is kept: the metric with its labels, and its name in reports.
const KEPT: [(&str, &str); 10] = [
    ("maishou_viewers", "viewers"),
    ("maishou_fanout_tick_seconds", "tick_s"),
    ("maishou_room_queue{queue=\"mailbox\"}", "room_queue"),
    ("maishou_desk_queue{queue=\"mailbox\"}", "desk_queue"),
    ("maishou_fanout_queue{queue=\"replies\"}", "reply_queue"),
    ("maishou_holds_open", "holds_open"),
    ("maishou_commit_seconds{quantile=\"0.99\"}", "commit_p99_s"),
    ("maishou_overruns_total", "overruns"),
    ("maishou_comments_left_out_total", "comments_left_out"),
    ("maishou_sales_left_out_total", "sales_left_out"),
];

/// One look. The token is an admin's.
pub async fn look(server: SocketAddr, token: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let reading = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.take(PAGE_BYTES_MAX).read_to_string(&mut page).await?;
        anyhow::Ok(page)
    };
    let page = timeout(TIME, reading).await.context("the metrics do not come")??;
    ensure!(page.split(' ').nth(1) == Some("200"), "the metrics are refused");
    Ok(read(&page))
}

fn read(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    let kept = lines.filter_map(|(metric, value)| {
        let (_, name) = KEPT.iter().find(|(kept, _)| *kept == metric)?;
        Some(((*name).to_owned(), value.parse().ok()?))
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_page_of_metrics() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP maishou_viewers x\nmaishou_viewers 12\n\
            maishou_desk_queue{queue=\"mailbox\"} 3\nmaishou_desk_queue{queue=\"events\"} 9\nmaishou_other 1\n";
        let kept = read(page);
        assert_eq!(kept, BTreeMap::from([("desk_queue".to_owned(), 3.0), ("viewers".to_owned(), 12.0)]));
    }
}
