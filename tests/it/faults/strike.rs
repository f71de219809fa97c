//! Makes system calls of a living agent fail, for a while.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::network::skipped;
use crate::support::host::Host;

/// Calls fail as long as this lives, in the agent and in all that it starts.
pub(super) struct Strike(Child);

impl Strike {
    /// Makes calls fail: `inject` is what strace takes, `getdents64:error=EIO`; with a path only
    /// those that name it. `None` where nobody may trace, which is told.
    pub(super) fn at(host: &Host, test: &str, inject: &str, path: Option<&str>) -> Option<Self> {
        let mut command = host.sandbox.command("strace");
        let (calls, _) = inject.split_once(':')?;
        let (trace, inject) = (format!("trace={calls}"), format!("inject={inject}"));
        command.args(["-f", "-e", &trace, "-e", &inject, "-o", "/dev/null"]);
        command.args(path.iter().flat_map(|path| ["-P", path]));
        command.args(["-p", &host.pid().to_string()]);
        let Ok(mut strace) = command.stderr(Stdio::piped()).spawn() else {
            skipped(test, "there is no strace");
            return None;
        };
        let mut lines = BufReader::new(strace.stderr.take()?).lines();
        // All threads that there are by then are meant by the first line.
        let first = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(" attached") || line.contains("not permitted"));
        assert!(first.is_some(), "strace ended");
        if first.is_some_and(|line| line.contains("not permitted")) {
            drop(strace.wait());
            skipped(test, "nobody may trace here");
            return None;
        }
        // Whatever it says later must not make it wait.
        std::thread::spawn(move || lines.count());
        Some(Self(strace))
    }
}

impl Drop for Strike {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        // It lets go of everything on the way out, unless a child is born at that very moment: then
        // it waits for ever for that one, which the kernel lets go when it is killed.
        for signal in [Signal::TERM, Signal::KILL] {
            if kill_process(pid, signal).is_err() {
                return;
            }
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 3,
                tv_nsec: 0,
            };
            if poll(&mut ended, Some(&patience)).is_ok_and(|ready| ready > 0) {
                break;
            }
        }
        drop(self.0.wait());
    }
}
