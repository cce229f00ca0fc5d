//! A value that is made by whoever asks for it first, and shared by all who ask after.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// What is made once and shared; what nobody asks for is never made. Others that ask meanwhile wait, so the making
/// should take far less than a millisecond.
pub struct Lazy<T>(Arc<LazyLock<T, Make<T>>>);

type Make<T> = Box<dyn FnOnce() -> T + Send>;

impl<T> Lazy<T> {
    /// What `make` gives, once somebody asks.
    pub fn new(make: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Lazy<T> {
    /// Without making it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn it_is_made_once_and_only_when_asked_for() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let lazy = Lazy::new(move || count.fetch_add(1, Ordering::Relaxed));
        let other = lazy.clone();
        assert_eq!(made.load(Ordering::Relaxed), 0);
        assert_eq!((*lazy, *other), (0, 0));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
