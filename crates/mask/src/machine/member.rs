//! Stepping to a member or an element: which rules follow, what the path is, whether it stays.

use super::string::Reader;
use super::{Cursor, Machine, Route, Sink, State};
use crate::error::MaskError;
use crate::plan::{Action, Down};
use crate::pointer::KEY_BYTES_MAX;

impl Machine {
    pub(super) fn comma<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        let object = self.in_object();
        let may_drop = !self.is_dead() && self.levels.last().is_some_and(|level| level.may_drop);
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
        let live = !self.is_dead();
        self.key.clear();
        self.key_resolved = false;
        self.live = false;
        self.action = Action::default();
        self.begin_string(cur, if live { Reader::Key } else { Reader::Nobody }, true)
    }

    /// The key has been read; the cursor stands behind it. `whole` is the key, if it stands
    /// unescaped in this chunk.
    pub(super) fn end_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, whole: Option<&[u8]>) {
        if self.reading.reader == Reader::Key {
            match whole {
                Some(key) => {
                    let kept = key.get(..KEY_BYTES_MAX).unwrap_or(key);
                    let is_cut = kept.len() < key.len();
                    self.resolve_key(cur, if is_cut { Down::LongKey } else { Down::Key(key) });
                    self.step_path(|path| append_key(path, kept, is_cut));
                }
                None => {
                    let key = core::mem::take(&mut self.key);
                    self.resolve_key(cur, key.known().map_or(Down::LongKey, Down::Key));
                    self.step_path(|path| append_key(path, key.bytes(), key.is_over()));
                    self.key = key;
                }
            }
        }
        self.state = State::Colon;
        if cur.peek() == Some(b':') {
            cur.at += 1;
            self.state = State::Value;
        }
    }

    /// Sets the path to a child of the innermost container, if anybody will ask for it.
    fn step_path(&mut self, append: impl FnOnce(&mut String)) {
        if !self.plan.path_needed() {
            return;
        }
        let parent = self.levels.last().map_or(0, |level| level.path);
        self.path.truncate(parent);
        if self.live {
            append(&mut self.path);
        }
    }

    /// A key longer than any rule's is decided at once, so that it need not be held.
    pub(super) fn check_long_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if self.route == Route::Hold && self.key.is_over() {
            self.resolve_key(cur, Down::LongKey);
        }
    }

    /// Finds the rules for the member whose key has been read, and whether the member stays.
    fn resolve_key<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, key: Down<'_>) {
        if core::mem::replace(&mut self.key_resolved, true) {
            return;
        }
        self.descend(key);
        if self.route != Route::Hold {
            return;
        }
        if self.drops() {
            self.hold.clear();
            self.dropping = Some(self.depth);
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
        let needed = (depth + 1) * width;
        if self.sets.len() < needed {
            self.sets.resize(needed, 0);
        }
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
        if self.depth > 0 && self.in_object() {
            return true;
        }
        if self.is_dead() {
            self.live = false;
            self.action = Action::default();
            return false;
        }
        let Some(level) = self.levels.last_mut() else { return false };
        let index = level.index;
        level.index += 1;
        self.descend(Down::Index(index));
        self.step_path(|path| {
            path.push('/');
            path.push_str(&index.to_string());
        });
        false
    }
}

/// Appends `/` and a key to a JSON pointer, escaped as RFC 6901 §3 asks; a cut key ends in `…`.
fn append_key(path: &mut String, key: &[u8], is_cut: bool) {
    path.push('/');
    // A long key may be cut inside a character.
    let valid = key.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    if valid.contains(['~', '/']) {
        path.push_str(&valid.replace('~', "~0").replace('/', "~1"));
    } else {
        path.push_str(valid);
    }
    if is_cut {
        path.push('…');
    }
}
