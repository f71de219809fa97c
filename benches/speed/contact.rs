//! First contact: a folder of files that no hub knows, until another host has them all.

use std::fs;
use std::time::Duration;

use super::far::Server;
use super::hosts::{self, Agent, Host, Lab};
use super::table::{Row, millis, print};
use super::{now, wait_until};

/// Measures a first contact over a path and over ssh.
pub(crate) fn measure(size: usize) {
    let lab = Lab::new(1);
    let server = Server::start(false);
    for (what, place, settings) in [
        ("first contact over a path -> all there", "path", Vec::new()),
        (
            "first contact over ssh -> all there",
            "ssh",
            server.settings(),
        ),
    ] {
        let hub = lab.empty_hub(&format!("{place}.git"));
        let url = match place {
            "ssh" => Server::url(&hub),
            _ => hub.display().to_string(),
        };
        let names = match place {
            "ssh" => ["laptop-ssh", "server-ssh"],
            _ => ["laptop-path", "server-path"],
        };
        let [laptop, there] = names.map(|name| lab.empty_host(name).with_hub(&url, &settings));
        hosts::fill(&laptop.tree, size, place);
        fs::create_dir(&there.tree).unwrap();
        let start = now();
        laptop.init();
        let first = Agent::start(&laptop);
        first.wait_synced();
        let published = start.elapsed();
        there.init();
        let second = Agent::start(&there);
        let mut seen: Vec<String> = Vec::new();
        wait_until(|| {
            if let Some(progress) = second.progress() {
                let what = progress.split(',').next().unwrap_or_default().to_owned();
                if !seen.contains(&what) {
                    seen.push(what);
                }
            }
            second.is_synced()
        });
        let took = start.elapsed();
        assert_eq!(hosts::count(&there.tree.join("p0")), size.min(1000));
        same(&laptop, &there, size);
        print(&Row::new(size, what, &[took], None));
        print(&Row::text(
            size,
            "  until it was published; progress that the other's status showed",
            format!("{}; {}", say(published), seen.join(" ")),
        ));
        first.stop();
        second.stop();
    }
}

fn say(time: Duration) -> String {
    millis(time)
}

/// Asserts that every file is there with its content.
fn same(from: &Host, to: &Host, size: usize) {
    for number in 0..size {
        let name = format!("p{}/d{}/f{number}.txt", number / 1000, number / 10);
        let (here, there) = (
            fs::read(from.tree.join(&name)),
            fs::read(to.tree.join(&name)),
        );
        assert_eq!(here.unwrap(), there.unwrap(), "{name}");
    }
}
