//! The board and the server: which call comes next, and what an answer, a click or a loss changes.
//!
//! Invariant: a click lets pass only what was on the screen, as it stands now; else it does nothing,
//! and what stands comes up anew.

use super::{Act, Board, Call, Card, Click, Item, Kind, Life, Moment, NEW_GAP, STALE, Slot, Wish};
use crate::engine::event::{Code, Trouble};
use crate::engine::status::{FolderStatus, HeldStatus};
use crate::names::ObjectId;

impl Board {
    /// Returns the call that comes next, if one is due.
    pub(in crate::desktop) fn next(&mut self, now: Moment) -> Option<Call> {
        self.drop_stale(now);
        let over = self.items.iter().find_map(|(slot, item)| match item.life {
            Life::Shown { id, .. } if !item.wanted => Some((slot.clone(), id)),
            Life::Shown { .. } | Life::New | Life::Gone => None,
        });
        if let Some((slot, id)) = over {
            self.items.remove(&slot);
            return Some(Call::Withdraw(id));
        }
        if let Some(id) = self.outdated.pop() {
            return Some(Call::Withdraw(id));
        }
        let wants = |&(slot, item): &(&Slot, &Item)| match &item.life {
            Life::New => self.may_be_new_at(slot).is_none_or(|at| at <= now),
            Life::Shown { says, .. } => *says != self.face(slot, item),
            Life::Gone => false,
        };
        let (slot, item) = self
            .items
            .iter()
            .filter(wants)
            .min_by_key(|(slot, item)| (&slot.1, item.since))?;
        Some(Call::Show {
            slot: slot.clone(),
            replaces: match item.life {
                Life::Shown { id, .. } => id,
                Life::New | Life::Gone => 0,
            },
            card: self.face(slot, item),
        })
    }

    /// Returns what an item is to say now.
    fn face(&self, slot: &Slot, item: &Item) -> Card {
        let asks = |(other, item): &(&Slot, &Item)| {
            other.0 == slot.0 && item.wanted && item.card.approves().is_some()
        };
        let mut card = item.card.clone();
        if self.items.iter().filter(asks).count() > 1 {
            card.approves_all();
        }
        card
    }

    /// Returns when [`next`](Self::next) may have something though nothing happened.
    pub(in crate::desktop) fn due(&self) -> Option<Moment> {
        let new = self.items.iter().filter(|(_, item)| item.life == Life::New);
        new.filter_map(|(slot, _)| self.may_be_new_at(slot)).min()
    }

    /// From when on a new bubble may come up here; `None` is at any time.
    fn may_be_new_at(&self, slot: &Slot) -> Option<Moment> {
        if slot.1.presses() {
            return None;
        }
        let last = self.folders.get(&slot.0)?.last_new?;
        Some(last + NEW_GAP)
    }

    fn drop_stale(&mut self, now: Moment) {
        for (slot, item) in &mut self.items {
            if item.life == Life::New && !slot.1.presses() && now.since(item.since) >= STALE {
                item.life = Life::Gone;
            }
        }
    }

    /// Takes that the server shows a card under this id.
    pub(in crate::desktop) fn shown(&mut self, now: Moment, slot: &Slot, id: u32, says: Card) {
        let replaced = |item: &Item| matches!(item.life, Life::Shown { id: old, .. } if old == id);
        let is_new = !self.items.get(slot).is_some_and(replaced);
        if is_new
            && !slot.1.presses()
            && let Some(known) = self.folders.get_mut(&slot.0)
        {
            known.last_new = Some(now);
        }
        let item = self.items.entry(slot.clone()).or_insert_with(|| Item {
            wanted: false,
            ..Item::new(now, says.clone())
        });
        if is_new {
            item.born = now;
        }
        // One that is to come up anew is not to be replaced where it was.
        item.life = if self.outdated.contains(&id) {
            Life::New
        } else {
            Life::Shown { id, says }
        };
    }

    /// Takes that a card could not be shown. What presses is tried again later.
    pub(in crate::desktop) fn failed(&mut self, slot: &Slot) {
        if !slot.1.presses()
            && let Some(item) = self.items.get_mut(slot)
        {
            item.life = Life::Gone;
        }
    }

    /// Takes that a notification is closed. Returns the folder and the commit whose push waited
    /// for it.
    pub(in crate::desktop) fn closed(&mut self, id: u32) -> Option<(String, ObjectId)> {
        let slot = self.slot_of(id)?;
        let item = self.items.get(&slot)?;
        // Who closed it has not seen what it is to say now.
        let unseen = slot.1.presses() && !self.is_current(&slot, item);
        let item = self.items.get_mut(&slot)?;
        item.life = if unseen { Life::New } else { Life::Gone };
        if !item.wanted {
            self.items.remove(&slot);
        }
        if slot.1 != Kind::Steps {
            return None;
        }
        let asked = self.folders.get_mut(&slot.0)?.asked.take()?;
        Some((slot.0, asked))
    }

    /// Returns whether this is on the screen and says what stands now.
    fn is_current(&self, slot: &Slot, item: &Item) -> bool {
        item.wanted
            && matches!(&item.life, Life::Shown { says, .. } if *says == self.face(slot, item))
    }

    /// Returns what can be approved in a folder and is on the screen as it stands now.
    fn on_screen(&self, folder: &str) -> Vec<HeldStatus> {
        let items = self.items.iter();
        items
            .filter(|(slot, item)| slot.0 == folder && self.is_current(slot, item))
            .filter_map(|(_, item)| item.card.approves().cloned())
            .collect()
    }

    /// Lets everything come up anew that can be approved in a folder: `status` and `stopped` are
    /// what stands now.
    pub(in crate::desktop) fn again(
        &mut self,
        now: Moment,
        key: &str,
        status: &FolderStatus,
        stopped: &[Trouble],
    ) {
        self.stand(now, key, status);
        for trouble in stopped {
            self.trouble(now, key, trouble);
        }
        let stands = |code: &String| stopped.iter().any(|it| it.code.word() == *code);
        self.unwant(|(folder, kind)| {
            folder == key
                && matches!(kind, Kind::Problem(code) if Code::is_approvable(code) && !stands(code))
        });
        for (slot, item) in &mut self.items {
            if slot.0 == key && item.wanted && item.card.approves().is_some() {
                if let Life::Shown { id, .. } = item.life {
                    self.outdated.push(id);
                }
                item.life = Life::New;
                item.since = now;
            }
        }
    }

    /// Returns what a click asks for.
    pub(in crate::desktop) fn clicked(&mut self, id: u32, key: &str) -> Option<Click> {
        let slot = self.slot_of(id)?;
        let item = self.items.get(&slot)?;
        let Life::Shown { says, .. } = &item.life else {
            return None;
        };
        let (_, _, act) = says.buttons.iter().find(|button| button.0 == key)?;
        let act = match act {
            _ if !item.wanted => return None,
            Act::Approve(_) if !self.is_current(&slot, item) => return None,
            Act::Approve(_) => Wish::Approve(self.on_screen(&slot.0)),
            Act::Show(place) => Wish::Show(place.clone()),
            Act::Undo(commit) => Wish::Undo(*commit),
            Act::Describe { commit, summary } => Wish::Describe {
                commit: *commit,
                summary: summary.clone(),
            },
        };
        let known = self.folders.get_mut(&slot.0)?;
        if matches!(act, Wish::Describe { .. }) {
            known.asked = None;
        }
        if matches!(act, Wish::Undo(_)) && std::mem::replace(&mut known.undoing, true) {
            // A second click before the first is done.
            return None;
        }
        Some(Click {
            name: known.folder.name.clone(),
            folder: slot.0,
            act,
        })
    }

    /// Takes that the server is gone, and every notification with it.
    pub(in crate::desktop) fn lost(&mut self) {
        self.outdated.clear();
        for (slot, item) in &mut self.items {
            if matches!(item.life, Life::Shown { .. }) {
                item.life = if slot.1.presses() {
                    Life::New
                } else {
                    Life::Gone
                };
            }
        }
        self.items.retain(|_, item| item.wanted);
    }

    /// Returns the commits whose pushes wait for an answer that cannot come, each once.
    pub(in crate::desktop) fn unanswerable(&mut self) -> Vec<(String, ObjectId)> {
        let asked = self.folders.iter_mut();
        asked
            .filter_map(|(key, known)| Some((key.clone(), known.asked.take()?)))
            .collect()
    }

    /// Returns the ids of everything that is on the screen.
    pub(in crate::desktop) fn living(&self) -> Vec<u32> {
        let id = |item: &Item| match item.life {
            Life::Shown { id, .. } => Some(id),
            Life::New | Life::Gone => None,
        };
        self.items.values().filter_map(id).collect()
    }

    fn slot_of(&self, id: u32) -> Option<Slot> {
        let mut items = self.items.iter();
        let found =
            items.find(|(_, item)| matches!(item.life, Life::Shown { id: it, .. } if it == id));
        found.map(|(slot, _)| slot.clone())
    }
}
