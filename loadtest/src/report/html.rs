use std::fmt::Write as _;

use crate::scenario::Scenario;

use super::{
    Point, Report,
    chinese::chinese,
    plot::{Plot, clock, escape, short},
    words::{class, figure, proof, target},
};

/// One page that needs nothing else: the verdict first, then what it rests on, in Chinese and English.
pub fn page(report: &Report) -> String {
    let mut page = String::with_capacity(1 << 16);
    let title = escape(&report.scenario.name);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\
         <nav><button onclick=\"speak('zh')\">中文</button><button onclick=\"speak('en')\">English</button></nav>"
    );
    verdict(&mut page, report);
    tiles(&mut page, report);
    proofs(&mut page, report);
    targets(&mut page, report);
    funnel(&mut page, report);
    plots(&mut page, report);
    latencies(&mut page, report);
    small_print(&mut page, report);
    let _ = write!(page, "</main><script>{SCRIPT}</script></body></html>");
    page
}

/// The same in both languages; the page shows one.
fn both(en: &str, zh: &str) -> String {
    format!("<span lang=\"en\">{en}</span><span lang=\"zh\">{zh}</span>")
}

/// A sentence of the report in both.
fn in_both(sentence: &str) -> String {
    both(&escape(sentence), &escape(&chinese(sentence)))
}

fn verdict(page: &mut String, report: &Report) {
    let (mark, said) = match (report.passed, report.failures().len()) {
        (true, _) => ("good", both("Passed", "通过")),
        (false, count) => ("bad", both(&format!("Failed: {count}"), &format!("未通过：{count} 项"))),
    };
    let _ = write!(
        page,
        "<header class=\"{mark}\"><p>{}</p><h1>{said}</h1><p>{}</p>",
        escape(&report.scenario.name),
        about(report)
    );
    for failure in report.failures() {
        let said = both(&escape(&failure.to_string()), &escape(&failure.chinese()));
        let _ = write!(page, "<p class=\"why\">{said}</p>");
    }
    if report.interrupted {
        let _ = write!(page, "<p>{}</p>", both("The run was ended before its time.", "本次运行被提前结束。"));
    }
    page.push_str("</header>");
    if !report.self_measured.is_empty() {
        let said = both(
            "The tester may have measured itself, not the server:",
            "压测端自身资源不足，下列数字可能反映的是压测端而不是服务器：",
        );
        let why = report.self_measured.iter().map(|why| format!("<li>{}</li>", in_both(why)));
        let why = why.collect::<String>();
        let _ = write!(page, "<section class=\"warn\">{said}<ul>{why}</ul></section>");
    }
}

/// A scenario may say in one language only what it is about.
fn about(report: &Report) -> String {
    let Scenario { about, about_zh, .. } = &report.scenario;
    match about_zh.is_empty() {
        true => escape(about),
        false => both(&escape(about), &escape(about_zh)),
    }
}

fn tiles(page: &mut String, report: &Report) {
    let p99 = |class: &str| report.all.get(class).map_or("–".to_owned(), |of| format!("{} ms", short(of.p99)));
    let seconds = report.seconds.max(0.001);
    let rate = |count: u64| short(count as f64 / seconds);
    let peak = report.timeline.iter().map(|point| point.presses).fold(0.0, f64::max);
    let tiles = [
        (both("people", "观众"), short(report.totals.joined as f64)),
        (both("orders paid", "已付订单"), short(report.funnel.paid as f64)),
        (both("presses a second, at most", "每秒下单峰值"), short(peak)),
        (both("deliveries a second", "每秒送达消息"), rate(report.totals.events)),
        (both("button to answer, p99", "下单响应 p99"), p99("hold")),
        (both("stock and cards, p99", "库存与卡片 p99"), p99("state")),
        (both("comments, p99", "评论 p99"), p99("chat")),
        (
            both("server, cores", "服务器 CPU 核"),
            report.server_used.map_or("–".to_owned(), |used| format!("{:.2}", used.cores)),
        ),
    ];
    let video = report.video.as_ref().map(|video| {
        [
            (both("watch the video", "观看视频"), short(video.watching as f64)),
            (both("first picture, p99", "首帧 p99"), format!("{} ms", short(video.first_picture.p99))),
            (both("packets lost", "丢包"), format!("{:.3} %", video.loss * 100.0)),
            (both("freezes", "卡顿次数"), short(video.freezes as f64)),
        ]
    });
    let tiles = tiles.into_iter().chain(video.into_iter().flatten());
    page.push_str("<section class=\"tiles\">");
    for (name, value) in tiles {
        let _ = write!(page, "<div><b>{value}</b>{name}</div>");
    }
    page.push_str("</section>");
}

fn proofs(page: &mut String, report: &Report) {
    let _ = write!(page, "<section><h2>{}</h2><ul class=\"proofs\">", both("Proofs", "证明"));
    for proof_of in &report.proofs {
        let (class, mark) = match proof_of.held {
            Some(true) => ("good", "✓"),
            Some(false) => ("bad", "✗"),
            None => ("none", "–"),
        };
        let (en, zh) = proof(&proof_of.name);
        let said = in_both(&proof_of.said);
        let _ = write!(page, "<li class=\"{class}\"><b>{mark} {}</b><p>{said}</p>", both(en, zh));
        for evidence in &proof_of.evidence {
            let _ = write!(page, "<code>{}</code>", in_both(evidence));
        }
        page.push_str("</li>");
    }
    page.push_str("</ul></section>");
}

fn targets(page: &mut String, report: &Report) {
    let heads = [("target", "目标"), ("measured", "实测"), ("at most", "上限")];
    let _ = write!(page, "<section><h2>{}</h2><table><tr>", both("Targets", "目标"));
    for (en, zh) in heads {
        let _ = write!(page, "<th>{}</th>", both(en, zh));
    }
    page.push_str("</tr>");
    for row in &report.targets {
        let (mark, class) = if row.held { ("✓", "good") } else { ("✗", "bad") };
        let measured = row.measured.map_or("–".to_owned(), short);
        let name = both(&escape(&row.name), &target(&row.name));
        let at_most = short(row.at_most);
        let _ = write!(page, "<tr class=\"{class}\"><td>{mark} {name}</td><td>{measured}</td><td>{at_most}</td></tr>");
    }
    page.push_str("</table></section>");
}

fn funnel(page: &mut String, report: &Report) {
    let funnel = &report.funnel;
    let rows = [
        (both("looked at a card", "查看商品"), funnel.looks),
        (both("pressed buy", "点击下单"), funnel.presses),
        (both("held", "锁定库存"), funnel.held),
        (both("paid", "已付款"), funnel.paid),
        (both("cancelled", "取消"), funnel.cancelled),
        (both("expired", "过期"), funnel.expired),
        (both("told sold out", "告知售罄"), funnel.sold_out),
        (both("refused otherwise", "其他拒绝"), funnel.refused),
        (both("still open", "未决"), funnel.open),
    ];
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let _ = write!(page, "<section><h2>{}</h2><div class=\"bars\">", both("From looking to paying", "从浏览到付款"));
    for (name, count) in rows.iter().filter(|(_, count)| *count > 0) {
        let part = *count as f64 / most * 100.0;
        let _ = write!(page, "<span>{name}</span><i><u style=\"width:{part:.1}%\"></u></i><b>{count}</b>");
    }
    page.push_str("</div></section>");
}

/// A plot's title in both languages, and its lines.
type Drawing<'a> = ((&'a str, &'a str), Vec<(String, Vec<Option<f64>>)>);

fn plots(page: &mut String, report: &Report) {
    let times: Vec<f64> = report.timeline.iter().map(|point| point.at).collect();
    let mut begin = 0.0;
    let phases = report.scenario.phases.iter().filter(|_| report.scenario.phases.len() > 1).map(|phase| {
        let began = begin;
        begin += phase.seconds;
        (began, phase.name.clone())
    });
    let phases: Vec<(f64, String)> = phases.collect();
    for ((en, zh), lines) in drawings(report) {
        let lines: Vec<_> =
            lines.into_iter().filter(|(_, values)| values.iter().flatten().any(|value| *value > 0.0)).collect();
        if lines.is_empty() {
            continue;
        }
        let lines = lines.iter().map(|(name, values)| (name.as_str(), values.clone())).collect();
        let svg = Plot { lines, times: &times, phases: &phases }.svg();
        let _ = write!(page, "<section><h2>{}</h2>{svg}</section>", both(en, zh));
    }
}

fn drawings(report: &Report) -> Vec<Drawing<'static>> {
    let line = |en: &str, zh: &str, of: &dyn Fn(&Point) -> Option<f64>| {
        (both(en, zh), report.timeline.iter().map(of).collect::<Vec<_>>())
    };
    let p99 = |of: &'static str| {
        let (en, zh) = class(of);
        line(en, zh, &move |point: &Point| point.latencies.get(of).map(|both| both[1]))
    };
    vec![
        (("How late events are: p99, ms", "消息延迟 p99（毫秒）"), ["state", "chat", "private"].map(p99).into()),
        (
            ("Commands to answers: p99, ms", "指令响应 p99（毫秒）"),
            ["hold", "pay", "comment", "look", "pin"].map(p99).into(),
        ),
        (
            ("People", "在线人数"),
            vec![
                line("WebSocket", "WebSocket", &|point| Some(point.websocket as f64)),
                line("server-sent events", "SSE", &|point| Some(point.sse as f64)),
                line("video", "视频", &|point| Some(point.webrtc as f64)),
            ],
        ),
        (
            ("Deliveries a second", "每秒送达"),
            vec![
                line("events", "消息", &|point| Some(point.deliveries)),
                line("frames", "帧", &|point| Some(point.frames)),
            ],
        ),
        (
            ("Orders, comments and errors a second", "每秒下单、评论与错误"),
            vec![
                line("presses", "点击下单", &|point| Some(point.presses)),
                line("errors", "错误", &|point| Some(point.errors)),
                line("paid", "已付款", &|point| Some(point.paid)),
                line("comments", "评论", &|point| Some(point.comments)),
            ],
        ),
        (
            ("Stock against sold, pieces", "库存与已售（件）"),
            vec![
                line("available", "可售", &|point| Some(point.available as f64)),
                line("held", "锁定", &|point| Some(point.held as f64)),
                line("sold", "已售", &|point| Some(point.sold as f64)),
            ],
        ),
        (
            ("CPU, cores", "CPU（核）"),
            vec![
                line("server", "服务器", &|point| point.server_cores),
                line("tester", "压测端", &|point| Some(point.own_cores)),
            ],
        ),
        (
            ("Memory, MB", "内存（MB）"),
            vec![
                line("server", "服务器", &|point| point.server_mb),
                line("tester", "压测端", &|point| Some(point.own_mb)),
            ],
        ),
        (
            ("Inside the server", "服务器内部"),
            ["room_queue", "desk_queue", "reply_queue", "holds_open"]
                .map(|name| {
                    let (en, zh) = figure(name);
                    line(en, zh, &move |point: &Point| point.gauges.get(name).copied())
                })
                .into(),
        ),
    ]
}

fn latencies(page: &mut String, report: &Report) {
    let _ = write!(page, "<section><h2>{}</h2>", both("All latencies, ms", "全部延迟（毫秒）"));
    let whole = (both("the whole run", "全程"), &report.all);
    let phases = report.phases.iter().map(|phase| (escape(&phase.name), &phase.latencies));
    let phases = phases.filter(|_| report.phases.len() > 1);
    for (at, (name, latencies)) in std::iter::once(whole).chain(phases).enumerate() {
        let open = if at == 0 { " open" } else { "" };
        let _ = write!(page, "<details{open}><summary>{name}</summary><div class=\"wide\"><table><tr><th></th>");
        for head in ["n", "p50", "p90", "p99", "p99.9", "max"] {
            let _ = write!(page, "<th>{head}</th>");
        }
        page.push_str("</tr>");
        for (of, quantiles) in latencies {
            let (en, zh) = class(of);
            let _ = write!(page, "<tr><td>{}</td><td>{}</td>", both(en, zh), short(quantiles.count as f64));
            for value in [quantiles.p50, quantiles.p90, quantiles.p99, quantiles.p999, quantiles.max] {
                let _ = write!(page, "<td>{}</td>", short(value));
            }
            page.push_str("</tr>");
        }
        page.push_str("</table></div></details>");
    }
    page.push_str("</section>");
}

fn small_print(page: &mut String, report: &Report) {
    let clocks = &report.clocks;
    let length = clock(report.seconds);
    let at = maishou::clock::UnixMs(report.began_at).to_utc();
    let (ahead, error) = (clocks.server_ahead, clocks.server_error);
    let server = report
        .server
        .as_deref()
        .map_or_else(|| both("a server started for this run", "本次运行自启动的服务器"), escape);
    let said = both(
        &format!(
            "{at}, {length} long. Latencies are counted from the time at which a thing was to be done, not from when \
             the tester got to it. The server's clock is {ahead:.1} ms ahead, give or take {error:.1}."
        ),
        &format!(
            "{at}，时长 {length}。延迟从计划时间起算，而不是从压测端实际发出时起算。服务器时钟快 {ahead:.1} 毫秒，误差 {error:.1} 毫秒。"
        ),
    );
    let own = &report.own;
    let tester = both(
        &format!("The tester kept {:.2} cores busy; its deeds were late by {:.1} ms at p99.", own.cores, own.late.p99),
        &format!("压测端使用 {:.2} 个 CPU 核，动作延误 p99 为 {:.1} 毫秒。", own.cores, own.late.p99),
    );
    let _ = write!(page, "<footer><p>{server}</p><p>{said}</p><p>{tester}</p></footer>");
}

const SCRIPT: &str = "function speak(l){document.documentElement.lang=l;try{localStorage.lang=l}catch(e){}}\
    let l=new URLSearchParams(location.search).get('lang');try{l=l||localStorage.lang}catch(e){}\
    speak(l||(navigator.language.startsWith('zh')?'zh':'en'))";

const STYLE: &str = "\
    :root{color-scheme:light;font:15px/1.5 system-ui,'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif}\
    body{margin:0;background:#f3f4f7;color:#223}main{max-width:980px;margin:auto;padding:12px;display:grid;gap:12px;\
    grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}\
    html[lang=en] [lang=zh],html[lang=zh] [lang=en]{display:none}\
    nav,header,.tiles,.warn,footer,section:has(.proofs){grid-column:1/-1}nav{text-align:right}\
    nav button{border:0;background:none;color:#2a6fbb;font:inherit;padding:4px 8px;cursor:pointer}\
    header,section{background:#fff;border-radius:10px;padding:14px 16px;min-width:0}\
    header{color:#fff}header.good{background:#217a4b}header.bad{background:#b3303f}header h1{margin:0;font-size:30px}\
    header p{margin:2px 0;overflow-wrap:anywhere}header .why{background:#0002;border-radius:6px;padding:6px 8px;margin-top:6px}\
    h2{font-size:15px;margin:0 0 8px}.warn{background:#fff3cd}.warn ul{margin:4px 0 0;padding-left:20px}\
    .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(max(150px,22%),1fr));gap:8px;background:none;padding:0}\
    .tiles div{background:#fff;border-radius:10px;padding:10px 12px;font-size:13px;color:#667}\
    .tiles b{display:block;font-size:22px;color:#223;font-weight:600}\
    ul.proofs{list-style:none;margin:0;padding:0;display:grid;gap:10px 20px;\
    grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}.proofs p{margin:0;color:#556}\
    .good b,tr.good td:first-child{color:#217a4b}.bad b,tr.bad td{color:#b3303f}.none b{color:#889}\
    code{display:block;font-size:12px;background:#fbeaec;padding:4px 6px;margin-top:4px;overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:3px 6px;border-bottom:1px solid #eef;\
    font-variant-numeric:tabular-nums}th{font-weight:500;color:#778}th:first-child,td:first-child{text-align:left}\
    .wide{overflow-x:auto}.bars{display:grid;grid-template-columns:auto 1fr auto;gap:6px 10px;align-items:center}\
    .bars i{background:#eef;height:14px;border-radius:4px;overflow:hidden}.bars u{display:block;height:100%;background:#2a6fbb}\
    .legend{margin:4px 0 0;font-size:13px;display:flex;flex-wrap:wrap;gap:2px 14px}\
    .legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}\
    svg{width:100%;height:auto;display:block}summary{cursor:pointer;padding:4px 0}\
    section:has(details){grid-column:1/-1}footer{font-size:13px;color:#667}footer p{margin:2px 0}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_speaks_both_languages() {
        let report = crate::report::sample();
        let page = page(&report);
        for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.find("Failed").unwrap() < page.find("Proofs").unwrap(), "the verdict first");
        assert_eq!(page.matches("lang=\"zh\"").count(), page.matches("lang=\"en\"").count() - 1);
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>bold"), "what others say is no markup");
    }
}
