//! What a report says in sentences, in Chinese: the figures and names in them stay as they are.

/// Sentences with holes, and the same in Chinese with the holes by their numbers. The first that fits is taken.
const SENTENCES: [(&str, &str); 68] = [
    // Verdicts on proofs.
    ("{} times it is not so that {}", "有 {0} 处反例：{1}"),
    ("it could not be looked at", "无法查看"),
    ("it was not looked at", "没有查看"),
    ("the room is not of this run: others act in it too", "直播间不属于本次运行：还有其他人在其中活动"),
    ("it is on the server's disk, which is not ours to read", "记录在服务器的磁盘上，压测端无法读取"),
    ("nothing was bought", "没有人下单"),
    ("nobody was told anything in private", "没有私信"),
    // Frames and state.
    (
        "{} viewers heard {} distinct frames, each whole, once and in order",
        "{0} 位观众收到 {1} 个不同的帧，完整、有序、不重复",
    ),
    ("{} gaps, {} repeats, {} strange messages", "{0} 处缺失、{1} 次重复、{2} 条异常消息"),
    (
        "{} viewers, one of them {}, did not hear the frames from {} to {} as they were sent",
        "{0} 位观众（例如 {1} 号）收到的第 {2} 至 {3} 帧与发出的不一致",
    ),
    ("nobody is there in the end", "最后没有人在场"),
    ("two crowds were told different things in frame {}", "两组观众收到的第 {0} 帧内容不同"),
    ("two viewers were told different things in frame {}: {}", "两位观众收到的第 {0} 帧内容不同：{1}"),
    (
        "viewer {} stands at Some({}) and got a frame after a gap: {}",
        "{0} 号观众停在第 {1} 个事件，之后收到的帧不连续：{2}",
    ),
    ("viewer {} got a frame twice: {}", "{0} 号观众两次收到同一帧：{1}"),
    ("viewer {} got no message of ours: {}", "{0} 号观众收到协议之外的消息：{1}"),
    ("viewer {} was told of fewer likes than the {} before: {}", "{0} 号观众收到的点赞数少于之前的 {1}：{2}"),
    ("a tally cannot be read: {}", "统计无法读取：{0}"),
    ("a snapshot cannot be read ({}): {}", "快照无法读取（{0}）：{1}"),
    ("a frame cannot be read ({}): {}", "帧无法读取（{0}）：{1}"),
    ("the snapshot at {} is not what the frames lead to: {}", "第 {0} 个事件处的快照与各帧推出的状态不同：{1}"),
    (
        "nobody was told what comes after {}, though later frames came",
        "第 {0} 个事件之后的内容没有人收到，而更晚的帧已到",
    ),
    ("{} viewers stand at event {} with the server's state", "{0} 位观众停在第 {1} 个事件，状态与服务器相同"),
    (
        "the frames lead to event {} of log {}, the server stands at {} of {}",
        "各帧推到日志 {1} 的第 {0} 个事件，服务器在 {3} 的第 {2} 个",
    ),
    ("the frames lead to another state than the server's: {}", "各帧推出的状态与服务器不同：{0}"),
    (
        "{} viewers, one of them {}, stand at event {} and not at {}",
        "{0} 位观众（例如 {1} 号）停在第 {2} 个事件，而不是第 {3} 个",
    ),
    ("{} likes were told, the server counts {}", "观众被告知 {0} 个赞，服务器只有 {1} 个"),
    // Answers and purchases.
    (
        "{} holds were acknowledged; of {} lost answers {} were resolved by their keys",
        "确认 {0} 次锁定；{1} 个丢失的应答中 {2} 个已凭幂等键查清",
    ),
    ("{} commands were never answered", "{0} 条指令始终没有应答"),
    ("an answer cannot be read: {}", "应答无法读取：{0}"),
    ("an answer to what nobody asked, or a second one: {}", "没有人提问的应答，或重复的应答：{0}"),
    ("an answer is either ok or an error: {}", "应答既不是成功也不是错误：{0}"),
    ("a comment is answered with its event: {}", "评论的应答里没有它的事件：{0}"),
    ("a hold is answered with itself: {}", "锁定的应答里没有该锁定：{0}"),
    ("the hold is not what was asked for: {}", "锁定的内容与请求不符：{0}"),
    ("the hold is somebody else's: {}", "锁定属于别人：{0}"),
    ("a payment is answered with its order: {}", "付款的应答里没有订单：{0}"),
    ("the order is not of the hold that was paid: {}", "订单与所付的锁定不符：{0}"),
    ("an upgrade was refused: {}", "连接升级被拒绝：{0}"),
    ("a join was refused: {}", "进入直播间被拒绝：{0}"),
    ("{} acknowledged orders can be read", "{0} 个已确认订单均可读取"),
    ("order {} was acknowledged and is not among the merchant's", "订单 {0} 已确认，但商家处没有"),
    ("order {} is not what was acknowledged: {}", "订单 {0} 与确认的内容不符：{1}"),
    ("the buyer of order {} cannot read it: {}", "订单 {0} 的买家无法读取它：{1}"),
    (
        "{} pieces of {} SKUs were sold, as {} signed chains count; none was oversold",
        "{1} 个 SKU 共售出 {0} 件，与 {2} 条签名链一致，没有超卖",
    ),
    ("the chain of {} is broken: {}", "{0} 的链已损坏：{1}"),
    ("there is no chain of {}", "没有 {0} 的链"),
    ("{}: {} pieces became {}", "{0}：{1} 件变成了 {2} 件"),
    ("{}: {} pieces were acknowledged as sold, its chain has {}", "{0}：确认售出 {1} 件，链上为 {2} 件"),
    ("{}: {} pieces were acknowledged as held, its chain has {}", "{0}：确认锁定 {1} 件，链上为 {2} 件"),
    ("hold {} was acknowledged and cannot be found: {}", "锁定 {0} 已确认，但查不到：{1}"),
    // Private messages and the tape.
    (
        "{} private messages reached {} people whole and in order; {} of them were asked for more",
        "{0} 条私信完整有序送达 {1} 人；抽查 {2} 人",
    ),
    ("{} private messages did not follow on the one before", "{0} 条私信与前一条不连续"),
    ("viewer {} had private message {}: {}", "{0} 号观众此前的私信编号为 {1}，下一条不连续：{2}"),
    ("viewer {} heard {} private messages of at least {}", "{0} 号观众收到 {1} 条私信，至少应有 {2} 条"),
    ("viewer {} heard private messages up to {}, and there is {}", "{0} 号观众收到第 {1} 条为止的私信，还有：{2}"),
    ("{} events that were told and {} acknowledged comments are on it", "{0} 个已播事件和 {1} 条已确认评论都在记录中"),
    ("event {} was told and is not on the tape", "第 {0} 个事件已播出，但记录中没有"),
    ("event {} was told otherwise than it is on the tape", "第 {0} 个事件播出的内容与记录不同"),
    ("event {} is on the tape as shown, and nobody was told", "第 {0} 个事件记录为已播，但没有人收到"),
    ("comment {} was acknowledged and is not on the tape as it was", "第 {0} 条评论已确认，但记录中没有或内容不同"),
    (
        "{} viewers and {} likes were told together, and the tape does not say so",
        "曾告知 {0} 位观众和 {1} 个赞，记录中没有这样的统计",
    ),
    // Why the tester may have measured itself.
    ("one deed in a hundred was done {} ms late or more", "百分之一的动作至少晚了 {0} 毫秒才发出"),
    ("one look at the sockets in a hundred took {} ms or more", "百分之一的套接字轮询耗时超过 {0} 毫秒"),
    ("the crowd waited for a core {} % of the time", "压测线程有 {0} % 的时间在等待 CPU"),
    ("the crowd kept its core busy {} % of the time", "压测线程占用了 {0} % 的一个 CPU 核"),
    ("this machine refused {} sockets: {}", "本机拒绝了 {0} 个套接字：{1}"),
    ("viewer {}: {}: {}", "{0} 号观众：{1}：{2}"),
];

/// The sentence in Chinese; what is none of ours as it is.
pub fn chinese(sentence: &str) -> String {
    known(sentence).unwrap_or_else(|| sentence.to_owned())
}

fn known(sentence: &str) -> Option<String> {
    SENTENCES.iter().find_map(|(english, chinese)| Some(filled(chinese, &holes(english, sentence)?)))
}

/// What stands in the holes of a sentence of this kind.
fn holes<'a>(kind: &str, sentence: &'a str) -> Option<Vec<&'a str>> {
    let mut fixed = kind.split("{}");
    let mut rest = sentence.strip_prefix(fixed.next()?)?;
    let mut holes = Vec::new();
    let mut fixed = fixed.peekable();
    while let Some(part) = fixed.next() {
        let is_last = fixed.peek().is_none();
        let end = match (part, is_last) {
            ("", _) => rest.len(),
            (_, true) if rest.ends_with(part) => rest.len() - part.len(),
            (_, true) => return None,
            _ => rest.find(part)?,
        };
        holes.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(holes)
}

/// Fills the holes; a sentence in one of them is translated, too.
fn filled(chinese: &str, holes: &[&str]) -> String {
    let mut parts = chinese.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, after) = part.split_once('}').expect("our own sentences are well formed");
        let hole = number.parse::<usize>().ok().and_then(|number| holes.get(number)).expect("a hole of the sentence");
        match hole.contains(' ') {
            true => text += &self::chinese(hole),
            false => text += hole,
        }
        text += after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_names_stay_as_they_are() {
        assert_eq!(
            chinese("red: 4 pieces were acknowledged as sold, its chain has 3"),
            "red：确认售出 4 件，链上为 3 件"
        );
        assert_eq!(
            chinese("the frames lead to event 5 of log a, the server stands at 6 of b"),
            "各帧推到日志 a 的第 5 个事件，服务器在 b 的第 6 个"
        );
        assert_eq!(chinese("something else"), "something else");
    }

    #[test]
    fn a_sentence_within_a_sentence_is_translated_too() {
        let said = chinese("2 times it is not so that 7 acknowledged orders can be read");
        assert_eq!(said, "有 2 处反例：7 个已确认订单均可读取");
    }

    #[test]
    fn every_sentence_is_known_by_itself_and_loses_nothing() {
        for (english, chinese) in SENTENCES {
            let count = english.matches("{}").count();
            for number in 0..count {
                assert!(chinese.contains(&format!("{{{number}}}")), "{english} loses {number}");
            }
            let said = english.replace("{}", "7");
            let found = SENTENCES.iter().find(|(kind, _)| holes(kind, &said).is_some());
            assert_eq!(found.map(|(kind, _)| *kind), Some(english), "{said}");
        }
    }

    #[test]
    fn what_others_say_is_not_filled_in_again() {
        assert_eq!(chinese("the chain of {1} is broken: x {0}"), "{1} 的链已损坏：x {0}");
    }
}
