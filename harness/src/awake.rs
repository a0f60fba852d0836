//! The factor `idle_policy=awake`: CPUs that never halt.

use crate::pin::Pinned;
use crate::plan::Group;
use crate::sys;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use switchmark_schema::ParamValue;

/// Keeps the CPUs of a placement from halting: a spinner of idle priority on each, which anything else
/// displaces at once. The factor `idle_policy=awake`.
pub(crate) struct Awake {
    stop: Arc<AtomicBool>,
    spinners: Vec<JoinHandle<()>>,
}

impl Awake {
    /// For a group that asks for it.
    pub(crate) fn for_group(group: &Group<'_>) -> Option<Awake> {
        let policy = group.params.iter().find(|(name, _)| name == "idle_policy")?;
        if policy.1 != ParamValue::Word("awake".into()) {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |&cpu: &usize| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                // A spinner that cannot have its place would disturb instead of helping: it ends.
                let Ok(_pinned) = Pinned::to(&[cpu]) else { return };
                if sys::become_idle_priority().is_err() {
                    return;
                }
                // Relaxed: nothing is published with the flag.
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let spinners = group.cpus.iter().map(spin).collect();
        Some(Awake { stop, spinners })
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        // Relaxed: the spinner reads nothing but the flag; `join` waits for it.
        self.stop.store(true, Ordering::Relaxed);
        for spinner in self.spinners.drain(..) {
            // A spinner only loops; it cannot have panicked with anything to tell.
            let _ = spinner.join();
        }
    }
}
