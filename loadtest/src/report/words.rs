use super::Proof;

/// A class of latencies in English and Chinese.
pub fn class(name: &str) -> (&'static str, &'static str) {
    match name {
        "state" => ("stock and cards", "库存与卡片"),
        "chat" => ("comments heard", "评论送达"),
        "tally" => ("between tallies", "统计间隔"),
        "private" => ("private messages", "私信"),
        "join" => ("coming in", "进入直播间"),
        "comment" => ("comment", "发评论"),
        "like" => ("like", "点赞"),
        "hold" => ("hold", "下单"),
        "pay" => ("pay", "付款"),
        "cancel" => ("cancel", "取消"),
        "look" => ("look at a card", "查看商品"),
        "pin" => ("pin", "讲解商品"),
        "stock" => ("edit stock", "修改库存"),
        _ => ("other", "其他"),
    }
}

/// A proof's name in English and Chinese.
pub fn proof(name: &str) -> (&'static str, &'static str) {
    match name {
        "frames" => ("Everybody heard the same, without gaps", "所有人收到相同消息，无缺失"),
        "state" => ("Everybody ends with the server's state", "所有人最终状态与服务器一致"),
        "answers" => ("No answer is lost", "没有丢失的应答"),
        "orders" => ("Every acknowledged order is there", "每个已确认订单都在"),
        "stock" => ("Nothing is oversold", "没有超卖"),
        "private" => ("All private messages arrived", "私信全部送达"),
        "tape" => ("The record is complete", "直播记录完整"),
        _ => ("Proof", "证明"),
    }
}

/// The Chinese of what a proof says: its figures in their order, under one sentence.
pub fn proof_said(proof: &Proof) -> String {
    let Some(held) = proof.held else { return "无法验证".to_owned() };
    if !held {
        return "存在反例，证据见下。".to_owned();
    }
    let numbers: Vec<&str> =
        proof.said.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
    match (proof.name.as_str(), numbers.as_slice()) {
        ("frames", [viewers, frames, ..]) => format!("{viewers} 位观众收到 {frames} 个不同的帧，完整、有序、不重复。"),
        ("state", [viewers, seq, ..]) => format!("{viewers} 位观众停在第 {seq} 个事件，状态与服务器相同。"),
        ("answers", [holds, lost, resolved, ..]) => {
            format!("确认 {holds} 次锁定；{lost} 个丢失的应答中 {resolved} 个已凭幂等键查清。")
        }
        ("orders", [orders, ..]) => format!("{orders} 个已确认订单均可读取。"),
        ("stock", [pieces, skus, ..]) => format!("{skus} 个 SKU 共售出 {pieces} 件，与签名链一致，没有超卖。"),
        ("private", [messages, people, asked, ..]) => {
            format!("{messages} 条私信完整有序送达 {people} 人；抽查 {asked} 人。")
        }
        ("tape", [events, comments, ..]) => format!("{events} 个已播事件和 {comments} 条已确认评论都在记录中。"),
        _ => "成立。".to_owned(),
    }
}

/// The Chinese of why the tester may have measured itself.
pub fn own_fault(why: &str) -> String {
    let number = why.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    if why.starts_with("one deed") {
        format!("百分之一的动作至少晚了 {number:.0} 毫秒才发出")
    } else if why.starts_with("one look") {
        format!("百分之一的套接字轮询耗时超过 {number:.0} 毫秒")
    } else if why.contains("waited for a core") {
        format!("压测线程有 {number:.0} % 的时间在等待 CPU")
    } else if why.contains("kept its core busy") {
        format!("压测线程占用了 {number:.0} % 的一个 CPU 核")
    } else {
        format!("本机拒绝了 {number:.0} 个套接字（{why}）")
    }
}

/// A target's name in Chinese.
pub fn target(name: &str) -> String {
    match name {
        "lost connections" => "断开的连接".to_owned(),
        "refused viewers" => "被拒绝的观众".to_owned(),
        "video loss" => "视频丢包率".to_owned(),
        "video freezes" => "每人每分钟卡顿".to_owned(),
        "viewers without video" => "看不到画面的观众".to_owned(),
        "server cores" => "服务器 CPU 核".to_owned(),
        _ => match name.strip_suffix(" p99 ms") {
            Some(of) => format!("{} p99（毫秒）", class(of).1),
            None => name.to_owned(),
        },
    }
}

/// A gauge of the server in English and Chinese.
pub fn figure(name: &str) -> (&'static str, &'static str) {
    match name {
        "room_queue" => ("commands waiting for the room", "直播间待处理指令"),
        "desk_queue" => ("commands waiting for the desk", "订单台待处理指令"),
        "reply_queue" => ("replies waiting", "待发应答"),
        "holds_open" => ("open holds", "未决锁定"),
        _ => ("other", "其他"),
    }
}
