//! What is logged, for tests that read it.

use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// Takes what this thread logs, as text, until the guard is dropped.
pub(crate) fn capture(level: Level) -> (Log, DefaultGuard) {
    static EVERYTHING_IS_OF_INTEREST: Once = Once::new();
    // While there is one subscriber only, `tracing` takes what any thread has for all: a line that a thread without one
    // reaches first would be off for good.
    EVERYTHING_IS_OF_INTEREST.call_once(|| {
        let all = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        assert!(all.is_ok(), "no other test sets it");
    });
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    (log, guard)
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// All so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
