//! What a command is doing, on a terminal, once it takes longer than two seconds.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// The command begins now.
pub fn begin() {
    BEGAN.get_or_init(Instant::now);
}

/// Something that is going on; dropped when it is over.
#[derive(Debug)]
pub struct Progress {
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Shows `what` from the third second of the command on. Nothing where the standard error is no terminal.
    pub fn of(what: impl Into<String>) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { shown: None };
        }
        let (what, (over, wait)) = (what.into(), channel());
        let show = move || {
            let patience = PATIENCE.saturating_sub(BEGAN.get_or_init(Instant::now).elapsed());
            let (began, mut next, mut written) = (Instant::now(), patience, false);
            while wait.recv_timeout(next) == Err(RecvTimeoutError::Timeout) {
                eprint!("\r\x1b[K{what} ... {:.0} s", began.elapsed().as_secs_f64());
                let _ = std::io::stderr().flush();
                (next, written) = (Duration::from_secs(1), true);
            }
            if written {
                eprint!("\r\x1b[K");
            }
        };
        Progress { shown: Some((over, std::thread::spawn(show))) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.shown.take() {
            drop(over);
            let _ = thread.join();
        }
    }
}
