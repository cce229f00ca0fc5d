//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Facts of `/proc/self`. What cannot be read is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProcessFacts {
    /// Processor time, in user and kernel mode, of all threads.
    cpu_secs: Option<f64>,
    /// Memory that is resident.
    resident_bytes: Option<i64>,
    /// Threads.
    threads: Option<i64>,
    /// File descriptors that are open.
    open_fds: Option<i64>,
}

/// Ticks a second of `/proc/self/stat`: `USER_HZ`, which Linux fixes at 100 for everything but Alpha.
const TICKS_A_SECOND: f64 = 100.0;

/// Reads the facts.
pub(super) async fn read() -> ProcessFacts {
    let stat = tokio::fs::read_to_string("/proc/self/stat").await.unwrap_or_default();
    let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
    ProcessFacts { open_fds: open_fds().await, ..parse(&stat, &status) }
}

async fn open_fds() -> Option<i64> {
    let mut entries = tokio::fs::read_dir("/proc/self/fd").await.ok()?;
    // The listing itself holds one.
    let mut count: i64 = -1;
    while entries.next_entry().await.ok()?.is_some() {
        count = count.saturating_add(1);
    }
    Some(count)
}

/// Reads `/proc/self/stat` and `/proc/self/status` (proc(5)).
fn parse(stat: &str, status: &str) -> ProcessFacts {
    let kibibytes = line(status, "VmRSS:");
    ProcessFacts {
        cpu_secs: cpu_secs(stat),
        resident_bytes: kibibytes.map(|k| k.saturating_mul(1024)),
        threads: line(status, "Threads:"),
        open_fds: None,
    }
}

/// Fields 14 and 15, user and kernel time. The second field, the name, may hold anything but ends at the last `)`.
fn cpu_secs(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let (user, kernel) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((f64::from(user) + f64::from(kernel)) / TICKS_A_SECOND)
}

/// The number in the line of this name.
fn line(status: &str, name: &str) -> Option<i64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

impl ProcessFacts {
    /// The facts as metrics.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("process");
        if let Some(cpu_secs) = self.cpu_secs {
            let counter = Counter::<f64, AtomicU64>::default();
            counter.inc_by(cpu_secs);
            registry.register_with_unit("cpu", "Processor time in user and kernel mode", Unit::Seconds, counter);
        }
        gauge(&mut registry, "resident_memory_bytes", "Memory that is resident", self.resident_bytes);
        gauge(&mut registry, "threads", "Threads", self.threads);
        gauge(&mut registry, "open_fds", "File descriptors that are open", self.open_fds);
        registry
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: Option<i64>) {
    if let Some(value) = value {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1 2 3";
        let status = "Name:\theadwater\nVmRSS:\t   2048 kB\nThreads:\t9\n";
        let facts = parse(stat, status);
        assert_eq!(
            facts,
            ProcessFacts {
                cpu_secs: Some(2.0),
                resident_bytes: Some(2 * 1024 * 1024),
                threads: Some(9),
                open_fds: None
            }
        );
        assert_eq!(parse("", "VmRSS:\n"), ProcessFacts::default());
    }

    #[tokio::test]
    async fn this_process_is_known() {
        let facts = read().await;
        assert!(facts.resident_bytes.unwrap() > 1024 * 1024);
        assert!(facts.threads.unwrap() >= 1);
        assert!(facts.open_fds.unwrap() >= 3);
        assert!(facts.cpu_secs.unwrap() >= 0.0);
    }
}
