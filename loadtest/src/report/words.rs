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
