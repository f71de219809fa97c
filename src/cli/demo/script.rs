//! The scenes, in order. Each edits as a person would and waits for what must be seen.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::host::{Host, PATIENCE};
use super::tale::Tale;
use super::verdict::{Ledger, Verdict};
use crate::clock;
use crate::control::What;
use crate::engine::timer::Moment;
use crate::fault;
use crate::git::Git;
use crate::paths::Env;
use crate::process;

/// The pause between two scenes: a person edits, looks, and goes on. Faster hands would see the
/// longer windows of a burst and nothing of what one edit costs.
const BEAT: Duration = Duration::from_millis(1700);

/// How many files make many.
const MANY: usize = 300;

/// How often we try to hit an agent that is receiving.
const SHOTS: usize = 5;

const TO_SERVER: &str = "laptop -> server";
const TO_LAPTOP: &str = "server -> laptop";
const BOTH: &str = "both";

/// The two hosts, and everything that was written.
pub(super) struct Script<'a> {
    place: PathBuf,
    laptop: Host,
    server: Host,
    ledger: Ledger,
    tale: &'a Tale,
}

impl<'a> Script<'a> {
    /// Makes the homes of both hosts.
    pub(super) fn new(place: &Path, user: &Env, tale: &'a Tale) -> anyhow::Result<Self> {
        Ok(Self {
            place: place.to_owned(),
            laptop: Host::new(place, "laptop", user)?,
            server: Host::new(place, "server", user)?,
            ledger: Ledger::default(),
            tale,
        })
    }

    /// Plays every scene and judges what came out. What goes wrong in a scene is in the verdict.
    pub(super) async fn play(&mut self) -> io::Result<Verdict> {
        self.tale.opening(&self.place)?;
        let outcome = match self.scenes().await {
            Ok(()) => self.judge().await,
            Err(error) => Err(error),
        };
        let sentence = |error: anyhow::Error| {
            let text = format!("{error:#}");
            let mut letters = text.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string());
            format!("{}{}.", first.unwrap_or_default(), letters.as_str())
        };
        Ok(outcome.unwrap_or_else(|error| Verdict::of_failure(sentence(error))))
    }

    async fn scenes(&mut self) -> anyhow::Result<()> {
        self.begin().await?;
        self.edits().await?;
        self.kinds().await?;
        self.both_ways().await?;
        self.merge().await?;
        self.conflict().await?;
        self.many().await?;
        self.killed().await
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        let begun = clock::now();
        self.laptop.start().await?;
        let what = format!("autosync run ~/Sync (agent {})", self.laptop.pid());
        self.told("laptop", &what, begun)?;
        let hub = self.laptop.hub()?;
        let begun = clock::now();
        let hub = hub
            .to_str()
            .context("the temporary place has no plain name")?;
        self.server.run(&["clone", hub, "Sync"])?;
        self.server.start().await?;
        let what = format!("autosync clone, autosync run (agent {})", self.server.pid());
        self.told("server", &what, begun)?;
        self.rest().await
    }

    async fn edits(&mut self) -> anyhow::Result<()> {
        let text = format!("buy milk {}\n", self.ledger.token());
        self.edit(
            TO_SERVER,
            "new file notes/todo.txt",
            "notes/todo.txt",
            &text,
        )
        .await?;

        let text = format!("{text}buy bread {}\n", self.ledger.token());
        self.edit(TO_LAPTOP, "edit of notes/todo.txt", "notes/todo.txt", &text)
            .await?;

        let begun = clock::now();
        rename(&self.laptop, "notes", "lists")?;
        self.server
            .sees("the renamed directory", |root| {
                is(root, "lists/todo.txt", &text) && !exists(root, "notes")
            })
            .await?;
        self.told(TO_SERVER, "directory notes renamed to lists", begun)?;
        self.rest().await
    }

    /// What is no plain text: a program, a link, a file that goes.
    async fn kinds(&mut self) -> anyhow::Result<()> {
        let text = format!("#!/bin/sh\n# {}\n", self.ledger.token());
        let begun = clock::now();
        write(&self.server, "bin/hello", &text)?;
        let program = Permissions::from_mode(0o755);
        fs::set_permissions(self.server.folder.join("bin/hello"), program)?;
        symlink("bin/hello", self.server.folder.join("hello"))?;
        self.laptop
            .sees("the program and the link to it", |root| {
                let mode = fs::metadata(root.join("hello")).map(|meta| meta.permissions().mode());
                let link = fs::read_link(root.join("hello"));
                mode.is_ok_and(|mode| mode & 0o100 != 0)
                    && link.is_ok_and(|target| target == Path::new("bin/hello"))
                    && is(root, "bin/hello", &text)
            })
            .await?;
        self.told(TO_LAPTOP, "new program bin/hello and a link to it", begun)?;
        self.rest().await?;

        let begun = clock::now();
        fs::remove_file(self.laptop.folder.join("lists/todo.txt"))?;
        self.server
            .sees("the delete", |root| !exists(root, "lists/todo.txt"))
            .await?;
        self.told(TO_SERVER, "lists/todo.txt deleted", begun)?;
        self.rest().await
    }

    async fn both_ways(&mut self) -> anyhow::Result<()> {
        let from_laptop = format!("written on the laptop {}\n", self.ledger.token());
        let from_server = format!("written on the server {}\n", self.ledger.token());
        let begun = clock::now();
        write(&self.laptop, "laptop.txt", &from_laptop)?;
        write(&self.server, "server.txt", &from_server)?;
        for host in [&self.laptop, &self.server] {
            host.sees("the file of the other computer", |root| {
                is(root, "laptop.txt", &from_laptop) && is(root, "server.txt", &from_server)
            })
            .await?;
        }
        self.told(BOTH, "a new file on each, at the same moment", begun)?;
        self.rest().await
    }

    async fn merge(&mut self) -> anyhow::Result<()> {
        let lines = |first: &str, last: &str| format!("{first}\n\none\ntwo\nthree\n\n{last}\n");
        let (first, last) = (self.ledger.token(), self.ledger.token());
        let base = lines(&first, &last);
        self.edit(TO_SERVER, "new file plan.txt", "plan.txt", &base)
            .await?;

        let (new_first, new_last) = (self.ledger.token(), self.ledger.token());
        let begun = clock::now();
        write(&self.laptop, "plan.txt", &lines(&new_first, &last))?;
        write(&self.server, "plan.txt", &lines(&first, &new_last))?;
        let merged = lines(&new_first, &new_last);
        for host in [&self.laptop, &self.server] {
            host.sees("the merge of both edits", |root| {
                is(root, "plan.txt", &merged)
            })
            .await?;
        }
        self.told(BOTH, "plan.txt: its first and its last line, merged", begun)?;
        self.rest().await
    }

    async fn conflict(&mut self) -> anyhow::Result<()> {
        let texts = [
            format!("an idea on the laptop {}\n", self.ledger.token()),
            format!("an idea on the server {}\n", self.ledger.token()),
        ];
        let begun = clock::now();
        for (host, text) in [&self.laptop, &self.server].into_iter().zip(&texts) {
            write(host, "ideas/name.txt", text)?;
        }
        let wanted: BTreeSet<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        for host in [&self.laptop, &self.server] {
            host.sees("both versions of ideas/name.txt", |root| {
                exists(root, "ideas/name.txt") && contents(&root.join("ideas")) == wanted
            })
            .await?;
        }
        let copy = names(&self.laptop.folder.join("ideas"))
            .into_iter()
            .find(|name| name != "name.txt")
            .unwrap_or_default();
        let what = format!("the same new name: ideas/name.txt and beside it `{copy}`");
        self.told(BOTH, &what, begun)?;
        self.rest().await
    }

    async fn many(&mut self) -> anyhow::Result<()> {
        let begun = clock::now();
        let mut left = self.burst("many");
        write_all(&self.laptop, &left)?;
        self.server
            .sees("many files", |root| {
                left.retain(|(name, text)| !is(root, name, text));
                left.is_empty()
            })
            .await?;
        self.told(TO_SERVER, &format!("{MANY} new files at once"), begun)?;
        self.rest().await
    }

    /// Returns the names and contents of many new files.
    fn burst(&mut self, dir: &str) -> Vec<(String, String)> {
        let file = |number| {
            let text = format!("number {number} {}\n", self.ledger.token());
            (format!("{dir}/{}/{number:03}.txt", number % 7), text)
        };
        (0..MANY).map(file).collect()
    }

    /// Kills the agent of the server in the middle of receiving, and starts it again.
    async fn killed(&mut self) -> anyhow::Result<()> {
        let mut written = Vec::new();
        for shot in 1..=SHOTS {
            let burst = self.burst(&format!("shot-{shot}"));
            let begun = clock::now();
            let mut wrote = Ok(());
            let events = self.server.client().events(
                || wrote = write_all(&self.laptop, &burst),
                |happening| !matches!(happening.what, What::Started { job } if job == "apply"),
            );
            let heard = tokio::time::timeout(PATIENCE, events).await;
            heard.context("the server never began to receive")??;
            wrote?;
            self.server
                .sees("the first of many files", |root| {
                    burst.iter().any(|(name, _)| exists(root, name))
                })
                .await?;
            self.server.kill()?;
            let here = &self.server.folder;
            let standing = burst.iter().filter(|(name, _)| exists(here, name));
            let standing = standing.count();
            written.extend(burst);
            let what = format!("with {standing} of {MANY} new files in place");
            self.told("kill -9 server", &what, begun)?;
            if standing < MANY || shot == SHOTS {
                break;
            }
            // It was faster than our shot.
            self.server.start().await?;
        }

        let text = format!("written meanwhile {}\n", self.ledger.token());
        write(&self.laptop, "meanwhile.txt", &text)?;
        let offline = format!("written without an agent {}\n", self.ledger.token());
        write(&self.server, "offline.txt", &offline)?;
        let begun = clock::now();
        self.server.start().await?;
        self.server
            .sees("what came while its agent was dead", |root| {
                written.retain(|(name, text)| !is(root, name, text));
                written.is_empty() && is(root, "meanwhile.txt", &text)
            })
            .await?;
        self.laptop
            .sees("what was written while the agent was dead", |root| {
                is(root, "offline.txt", &offline)
            })
            .await?;
        let what = format!(
            "started again (agent {}): everything is there",
            self.server.pid()
        );
        Ok(self.told("server", &what, begun)?)
    }

    /// Waits for quiet, stops both agents, and compares.
    async fn judge(&mut self) -> anyhow::Result<Verdict> {
        self.quiet().await?;
        self.laptop.stop().await?;
        self.server.stop().await?;
        let hub = self.laptop.hub()?;
        self.sabotage(&hub)?;
        Verdict::of(
            [
                (self.laptop.name, &self.laptop.folder),
                (self.server.name, &self.server.folder),
            ],
            &hub,
            &self.ledger,
        )
    }

    /// Waits until both hosts have nothing to do and are at the same commit as the hub.
    async fn quiet(&self) -> anyhow::Result<()> {
        let hub = Git::bare(&self.laptop.hub()?);
        let deadline = process::deadline(PATIENCE);
        loop {
            self.laptop.synced().await?;
            self.server.synced().await?;
            let laptop = self.laptop.settled().await?;
            let server = self.server.settled().await?;
            let tip = hub.call("rev-parse", ["HEAD"], b"")?;
            let tip = String::from_utf8_lossy(tip.trim_ascii()).into_owned();
            if laptop.head == tip && server.head == tip && laptop.published && server.published {
                return Ok(());
            }
            if clock::until(deadline).is_zero() {
                bail!("the two computers did not come to the same commit");
            }
        }
    }

    /// Spoils the result where a test asks for it, to see that we notice.
    fn sabotage(&mut self, hub: &Path) -> anyhow::Result<()> {
        let asked = fault::asked("AUTOSYNC_DEMO_SABOTAGE").unwrap_or_default();
        for what in asked.split(',').filter(|what| !what.is_empty()) {
            match what {
                "tree" => fs::remove_file(self.server.folder.join("plan.txt"))?,
                "mode" => {
                    let plain = Permissions::from_mode(0o644);
                    fs::set_permissions(self.laptop.folder.join("bin/hello"), plain)?;
                }
                "token" => drop(self.ledger.token()),
                "hub" => spoil(hub)?,
                other => bail!("there is no sabotage `{other}`"),
            }
        }
        Ok(())
    }

    /// Writes a file, waits until it is on the other side, and tells it.
    async fn edit(&self, way: &str, what: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let (here, there) = if way == TO_SERVER {
            (&self.laptop, &self.server)
        } else {
            (&self.server, &self.laptop)
        };
        let begun = clock::now();
        write(here, name, text)?;
        there.sees(what, |root| is(root, name, text)).await?;
        self.told(way, what, begun)?;
        self.rest().await
    }

    fn told(&self, who: &str, what: &str, begun: Moment) -> io::Result<()> {
        self.tale.step(who, what, clock::now().since(begun))
    }

    /// Lets everything settle and takes a breath.
    async fn rest(&self) -> anyhow::Result<()> {
        let settled = async {
            self.laptop.settled().await?;
            self.server.settled().await
        };
        let (settled, ()) = tokio::join!(settled, tokio::time::sleep(BEAT));
        settled.map(drop)
    }
}

/// Turns the bits of one byte of the repository around.
fn spoil(hub: &Path) -> anyhow::Result<()> {
    let pack = fs::read_dir(hub.join("objects/pack"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"));
    let pack = pack.context("the hub has no pack to be spoiled")?;
    let mut bytes = fs::read(&pack)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::remove_file(&pack)?;
    Ok(fs::write(&pack, bytes)?)
}

fn write(host: &Host, name: &str, text: &str) -> io::Result<()> {
    let path = host.folder.join(name);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)
}

fn write_all(host: &Host, files: &[(String, String)]) -> io::Result<()> {
    files
        .iter()
        .try_for_each(|(name, text)| write(host, name, text))
}

fn rename(host: &Host, from: &str, to: &str) -> io::Result<()> {
    fs::rename(host.folder.join(from), host.folder.join(to))
}

fn is(root: &Path, name: &str, text: &str) -> bool {
    fs::read(root.join(name)).is_ok_and(|found| found == text.as_bytes())
}

fn exists(root: &Path, name: &str) -> bool {
    fs::symlink_metadata(root.join(name)).is_ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn contents(dir: &Path) -> BTreeSet<Vec<u8>> {
    let read = |name: String| fs::read(dir.join(name)).ok();
    names(dir).into_iter().filter_map(read).collect()
}
