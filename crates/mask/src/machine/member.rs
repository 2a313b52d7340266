//! Stepping to a member or an element: which rules follow, what the path is, whether it stays.

use super::string::Reader;
use super::{Container, Cursor, Machine, Route, Sink, State};
use crate::error::MaskError;
use crate::plan::{Action, Down};

impl Machine {
    pub(super) fn comma<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        let top = self.levels.last();
        let object = top.is_some_and(|level| level.container == Container::Object);
        let may_drop = top.is_some_and(|level| level.may_drop);
        if object && may_drop && self.route == Route::Forward {
            // Whether this comma stays depends on the member behind it.
            self.flush(cur);
            cur.from = cur.at + 1;
            self.route = Route::Hold;
        }
        cur.at += 1;
        self.state = if object { State::Key } else { State::Value };
    }

    pub(super) fn begin_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) -> Result<(), MaskError> {
        if self.route == Route::Hold {
            self.flush(cur);
        }
        let live = self.levels.last().is_some_and(|level| level.live);
        self.key.clear();
        self.key_resolved = false;
        self.live = false;
        self.action = Action::default();
        self.begin_string(cur, if live { Reader::Key } else { Reader::Nobody }, true)
    }

    pub(super) fn end_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if self.reading.reader == Reader::Key {
            self.resolve_key(cur);
            let parent = self.levels.last().map_or(0, |level| level.path);
            self.path.truncate(parent);
            if self.live && self.plan.path_needed() {
                self.key.append_to(&mut self.path);
            }
        }
        self.state = State::Colon;
        if cur.peek() == Some(b':') {
            cur.at += 1;
            self.state = State::Value;
        }
    }

    /// A key longer than any rule's is decided at once, so that it need not be held.
    pub(super) fn check_long_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if self.route == Route::Hold && self.key.is_over() {
            self.resolve_key(cur);
        }
    }

    /// Finds the rules for the member whose key has been read, and whether the member stays.
    fn resolve_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if core::mem::replace(&mut self.key_resolved, true) {
            return;
        }
        let key = core::mem::take(&mut self.key);
        self.descend(key.known().map_or(Down::LongKey, Down::Key));
        self.key = key;
        if self.route != Route::Hold {
            return;
        }
        if self.drops() {
            self.hold.clear();
            self.dropping = Some(self.levels.len());
            self.route = Route::Discard;
        } else {
            self.release_hold(cur);
        }
    }

    /// The member being held stays.
    pub(super) fn release_hold<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if let Some(level) = self.levels.last_mut()
            && core::mem::replace(&mut level.kept, true)
        {
            cur.out.put(b",");
        }
        cur.out.put(&self.hold);
        self.hold.clear();
        self.route = Route::Forward;
    }

    /// Steps from the innermost container to one of its children.
    fn descend(&mut self, step: Down<'_>) {
        let width = self.plan.width();
        let depth = self.levels.len();
        let below = self.sets.split_at_mut_checked(depth * width);
        let Some((above, below)) = below else { return };
        let parent = depth.checked_sub(1).and_then(|depth| above.get(depth * width..));
        if let (Some(parent), Some(child)) = (parent, below.get_mut(..width)) {
            self.live = self.plan.down(parent, step, child);
            self.action = if self.live { self.plan.action(child) } else { Action::default() };
        }
    }

    /// Finds the rules for an array's next element; says whether the value is an object's member.
    pub(super) fn enter_element(&mut self) -> bool {
        let Some(level) = self.levels.last_mut() else { return false };
        if level.container == Container::Object {
            return true;
        }
        let index = level.index;
        level.index += 1;
        let (live, path) = (level.live, level.path);
        if live {
            self.descend(Down::Index(index));
            self.path.truncate(path);
            if self.live && self.plan.path_needed() {
                self.path.push('/');
                self.path.push_str(&index.to_string());
            }
        } else {
            self.live = false;
            self.action = Action::default();
        }
        false
    }
}
