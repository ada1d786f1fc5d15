use std::fmt::Write as _;

/// The inside of a plot, in its own units; the page scales it.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 42.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 8.0;
const COLOURS: [&str; 6] = ["#2a6fbb", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#555555"];

/// Lines over the time of a run.
pub struct Plot<'a> {
    /// Names and values, one for each time; absent where nothing was measured.
    pub lines: Vec<(&'a str, Vec<Option<f64>>)>,
    pub times: &'a [f64],
    /// When phases begin, and their names.
    pub phases: &'a [(f64, String)],
}

impl Plot<'_> {
    /// An SVG that needs no script and no style of the page.
    pub fn svg(&self) -> String {
        let end = self.times.last().copied().unwrap_or(1.0).max(1.0);
        let values = self.lines.iter().flat_map(|(_, values)| values.iter().flatten());
        let top = round_up(values.copied().fold(0.0, f64::max));
        let x = |time: f64| LEFT + time / end * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" font-family=\"inherit\" font-size=\"11\" fill=\"#556\">"
        );
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let (line, text) = (y(value), y(value) + 4.0);
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {line:.1}H{}\" stroke=\"#dde\" fill=\"none\"/><text x=\"{}\" y=\"{text:.1}\" \
                 text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 5.0,
                short(value)
            );
        }
        let mut name_ends = f64::MIN;
        let mut row = 0.0;
        for (at, name) in self.phases.iter().filter(|(at, _)| *at < end) {
            let at = x(*at);
            // A name that would run into the one before goes below it.
            row = if at < name_ends && row == 0.0 { 1.0 } else { 0.0 };
            name_ends = at + 6.0 * name.chars().count() as f64;
            let _ = write!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{}\" stroke=\"#aab\" stroke-dasharray=\"3 3\" fill=\"none\"/>\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"10\">{}</text>",
                HEIGHT - BOTTOM,
                at + 3.0,
                TOP + 8.0 + 11.0 * row,
                escape(name)
            );
        }
        for step in 0..=4 {
            let time = end * f64::from(step) / 4.0;
            let anchor = if step == 4 { "end" } else { "middle" };
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                x(time),
                HEIGHT - 6.0,
                clock(time)
            );
        }
        for ((_, values), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let _ = write!(
                svg,
                "<path d=\"{}\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" fill=\"none\"/>",
                path(self.times.iter().map(|time| x(*time)).zip(values.iter().map(|value| value.map(y))))
            );
        }
        svg.push_str("</svg>");
        svg + &self.legend()
    }

    fn legend(&self) -> String {
        let names = self.lines.iter().zip(COLOURS.iter().cycle());
        let names =
            names.map(|((name, _), colour)| format!("<span><i style=\"background:{colour}\"></i>{name}</span>"));
        format!("<p class=\"legend\">{}</p>", names.collect::<String>())
    }
}

/// A line that breaks where nothing was measured; a lone point is a dot.
fn path(points: impl Iterator<Item = (f64, Option<f64>)>) -> String {
    let (mut path, mut is_drawing) = (String::new(), false);
    for (x, y) in points {
        match y {
            Some(y) if is_drawing => drop(write!(path, "L{x:.1} {y:.1}")),
            Some(y) => drop(write!(path, "M{x:.1} {y:.1}h.1")),
            None => {}
        }
        is_drawing = y.is_some();
    }
    path
}

/// The next of 1, 2, 4, 6, 8 and 10 times a power of ten: a quarter of it is a plain number, too.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// A number that fits beside an axis.
pub fn short(value: f64) -> String {
    let trim = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    match value.abs() {
        0.0 => "0".to_owned(),
        value_abs if value_abs >= 1e6 => format!("{}M", trim(format!("{:.2}", value / 1e6))),
        value_abs if value_abs >= 1e4 => format!("{}k", trim(format!("{:.1}", value / 1e3))),
        value_abs if value_abs >= 100.0 => format!("{value:.0}"),
        value_abs if value_abs >= 1.0 => trim(format!("{value:.1}")),
        _ => trim(format!("{value:.3}")),
    }
}

/// A number as a sentence has it: whole ones without a fraction, small ones with three figures.
pub fn figure(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let places = (2.0 - value.abs().log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.places$}");
    if places == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Seconds as minutes and seconds.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Text that is no markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 3.0, 21.0, 26.0, 1_000.0].map(round_up), [1.0, 0.8, 4.0, 40.0, 40.0, 1_000.0]);
        assert_eq!([0.0, 0.25, 12.5, 250.0, 12_500.0, 3e6].map(short), ["0", "0.25", "12.5", "250", "12.5k", "3M"]);
        let figures = [0.0, 400.0, 412.16, 0.001, 0.000_123_4, 1.5, 12_345.6].map(figure);
        assert_eq!(figures, ["0", "400", "412", "0.001", "0.000123", "1.5", "12346"]);
        assert_eq!([0.0, 61.0, 4_620.0].map(clock), ["0:00", "1:01", "77:00"]);
    }

    #[test]
    fn a_line_breaks_where_nothing_was_measured() {
        let drawn = path([1.0, 2.0, 3.0, 4.0].into_iter().zip([Some(1.0), Some(2.0), None, Some(3.0)]));
        assert_eq!(drawn, "M1.0 1.0h.1L2.0 2.0M4.0 3.0h.1");
    }

    #[test]
    fn names_of_phases_do_not_run_into_each_other() {
        let phases = [(0.0, "before midnight".to_owned()), (10.0, "it fills".to_owned()), (60.0, "after".to_owned())];
        let svg = Plot { lines: vec![("a", vec![Some(1.0); 2])], times: &[0.0, 100.0], phases: &phases }.svg();
        let rows: Vec<&str> = svg.split("font-size=\"10\">").map(|part| part.rsplit(" y=\"").next().unwrap()).collect();
        assert!(rows[0] != rows[1] && rows[0] == rows[2], "{svg}");
    }

    #[test]
    fn names_of_others_are_no_markup() {
        let phases = [(0.0, "<script>".to_owned())];
        let plot = Plot { lines: vec![("a", vec![Some(1.0)])], times: &[1.0], phases: &phases };
        assert!(!plot.svg().contains("<script>"));
    }
}
