//! Three real agents as a black box, judged by a model that nobody here made up.
//!
//! A case is one file on three clients: somebody reads, writes and deletes it here and there while
//! the agents are at work; then all is quiet, and what every client shows, conflict files too, must
//! be explained by the model in `mysteries/model.rs`. Each call is one system call that also returns
//! what it replaced, so what was observed is exact. Several files are worked on at once, each with a
//! history of its own.
//!
//! `AUTOSYNC_TEST_CASES` is how many cases there are, 200 if not set; `AUTOSYNC_TEST_SEED` repeats a run
//! as far as time lets it be repeated.
//!
//! ```text
//! AUTOSYNC_TEST_CASES=20000 cargo test --test it -- mysteries::
//! ```

mod clients;
mod model;

use clients::Clients;
use model::{Call, explain};

/// So many files are worked on at once.
const AT_ONCE: usize = 8;

/// What is done in the turn of a file, out of 100.
fn turn(clients: &mut Clients, file: &mut File, random: &mut fastrand::Rng) {
    let at = random.usize(..3);
    let call = match random.u32(..100) {
        0..45 => {
            let (new, seen) = clients.write(at, &file.name);
            Call::Write(at, new, seen)
        }
        45..65 => {
            let seen = clients.delete(at, &file.name);
            // What is not there cannot be deleted, which was seen.
            match seen {
                None => Call::Read(at, None),
                some => Call::Delete(at, some),
            }
        }
        65..85 => Call::Read(at, clients.read(at, &file.name)),
        // Time goes by: this client's agent, or all of them, come to rest.
        85..97 => return clients.rest(at),
        _ => return clients.quiet(),
    };
    file.history.push(call);
}

/// A file and what was seen of it.
struct File {
    name: String,
    history: Vec<Call>,
}

/// Runs so many cases at once. Returns the histories that nothing explains.
fn cases(clients: &mut Clients, names: Vec<String>, random: &mut fastrand::Rng) -> Vec<String> {
    let file = |name| File {
        name,
        history: Vec::new(),
    };
    let mut files: Vec<File> = names.into_iter().map(file).collect();
    // Twice over: the second half begins with a file that all have.
    for _ in 0..2 {
        for _ in 0..files.len() * random.usize(3..9) {
            let at = random.usize(..files.len());
            turn(clients, &mut files[at], random);
        }
        clients.quiet();
        for file in &mut files {
            let seen = (0..3).map(|at| clients.all(at, &file.name)).collect();
            file.history.push(Call::Stabilize(seen));
        }
    }
    let wrong = files.iter().filter_map(|file| {
        let at = explain(3, &file.history).err()?;
        let (name, history) = (&file.name, &file.history);
        Some(format!("`{name}`: call {at} of {history:#?}"))
    });
    wrong.collect()
}

#[test]
fn whatever_three_agents_show_of_a_file_is_explained_by_uploads_and_downloads() {
    let number = |variable| Some(std::env::var(variable).ok()?.parse::<u64>().unwrap());
    let seed = number("AUTOSYNC_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let all = usize::try_from(number("AUTOSYNC_TEST_CASES").unwrap_or(200)).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut clients = Clients::start();
    let mut done = 0;
    while done < all {
        let some = random.usize(1..=AT_ONCE).min(all - done);
        let names = (done..done + some).map(|number| format!("f{number}.txt"));
        let wrong = cases(&mut clients, names.collect(), &mut random);
        assert!(
            wrong.is_empty(),
            "AUTOSYNC_TEST_SEED={seed}, after {done} cases\n{}",
            wrong.join("\n")
        );
        done += some;
    }
    let conflicts = clients.end();
    assert!(conflicts * 10 > all, "only {conflicts} conflicts");
}
