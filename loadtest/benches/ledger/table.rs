//! What was measured, and how it is told.

use std::time::Duration;

/// What one round measured.
#[derive(Clone, Debug)]
pub struct Figures {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    /// CPU of the whole process for each answer.
    pub cpu: Duration,
}

impl Figures {
    pub fn new(mut waits: Vec<Duration>, took: Duration, cpu: Duration) -> Self {
        waits.sort_unstable();
        let answers = waits.len().max(1);
        Self {
            per_second: waits.len() as f64 / took.as_secs_f64(),
            p50: quantile(&waits, 0.5),
            p99: quantile(&waits, 0.99),
            p999: quantile(&waits, 0.999),
            cpu: cpu.div_f64(answers as f64),
        }
    }
}

/// A quantile of sorted waits.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let at = (sorted.len() as f64 * q) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians of several rounds, each figure for itself.
pub struct Row {
    name: &'static str,
    per_second: f64,
    waits_us: [f64; 3],
    cpu_us: f64,
}

impl Row {
    pub fn of(name: &'static str, rounds: &[Figures]) -> Self {
        let of = |figure: fn(&Figures) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
        Self {
            name,
            per_second: of(|f| f.per_second),
            waits_us: [of(|f| micros(f.p50)), of(|f| micros(f.p99)), of(|f| micros(f.p999))],
            cpu_us: of(|f| micros(f.cpu)),
        }
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

pub fn print_rows(title: &str, rows: &[Row]) {
    println!("\n{title}");
    for row in rows {
        let [p50, p99, p999] = row.waits_us;
        println!(
            "  {:<24} {:>9.0}/s   p50 {p50:>7.0} us   p99 {p99:>7.0} us   p99.9 {p999:>7.0} us   CPU {:>5.2} us each",
            row.name, row.per_second, row.cpu_us
        );
    }
}

/// CPU time of this process, all threads.
pub fn cpu_time() -> Duration {
    // SAFETY: zeros are a valid `rusage`, and the pointer is to one on this stack, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}
