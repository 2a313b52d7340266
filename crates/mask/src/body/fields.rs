//! Single named values, for kinds that have no nesting of their own.

use moat_model::limit::{CAPTURES_MAX, JSON_SCALAR_BYTES_MAX};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{BodyError, Context, Mode};
use crate::capture::{Capture, Captures, Scalar};
use crate::error::MaskError;
use crate::plan::{Action, Down};
use crate::strategy::{Strategy, fixed};
use moat_model::Class;

/// Applies a plan to named values.
pub(super) struct Fields {
    context: Context,
    captures: Vec<Capture>,
}

/// The rules of one name.
pub(super) struct Named {
    set: Vec<u64>,
    action: Action,
    pointer: String,
}

/// What becomes of a value.
pub(super) enum Fate {
    Stays,
    Shown(String),
    Leaves,
}

impl Fields {
    pub(super) fn new(context: Context) -> Fields {
        Fields { context, captures: Vec::new() }
    }

    /// The rules of a name, as it stands and by its steps (`a[b]`, `a.b`).
    pub(super) fn named(&self, name: &str) -> Named {
        let plan = &self.context.plan;
        let whole = self.set(core::iter::once(name));
        let steps = || name.split(['[', ']', '.']).filter(|step| !step.is_empty());
        let mut set = whole;
        if steps().nth(1).is_some() {
            set.iter_mut().zip(self.set(steps())).for_each(|(to, more)| *to |= more);
        }
        let action = plan.action(&set);
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        Named { set, action, pointer }
    }

    fn set<'a>(&self, steps: impl Iterator<Item = &'a str>) -> Vec<u64> {
        let plan = &self.context.plan;
        let mut set = vec![0; plan.width()];
        plan.start(&mut set);
        for step in steps {
            let mut next = vec![0; plan.width()];
            plan.down(&set, Down::Key(step.as_bytes()), &mut next);
            set = next;
        }
        set
    }

    /// Captures a value and says what becomes of it. `offset` is its place in the body.
    pub(super) fn value(
        &mut self,
        named: &Named,
        text: &str,
        offset: u64,
    ) -> Result<Fate, BodyError> {
        let action = &named.action;
        if action.captures {
            let class = action.class.unwrap_or(Class::C1);
            for id in self.context.plan.capture_ids(&named.set) {
                if self.captures.len() >= CAPTURES_MAX {
                    return Err(MaskError::TooManyFields { offset }.into());
                }
                let value = if class == Class::Sad { Scalar::Withheld } else { scalar(text) };
                let pointer = named.pointer.clone();
                self.captures.push(Capture { id, pointer, class, value });
            }
        }
        let Some((strategy, class)) = action.shown.filter(|_| self.context.mode == Mode::Rewrite)
        else {
            return Ok(Fate::Stays);
        };
        Ok(match strategy {
            Strategy::Drop => Fate::Leaves,
            Strategy::Null => Fate::Shown(String::new()),
            _ if text.is_empty() => Fate::Stays,
            _ if strategy.is_keyed() => {
                let made = self.context.keys.as_ref().and_then(|keys| match strategy {
                    Strategy::HashAnchor => keys.anchor(&named.pointer, class, &scalar(text)),
                    _ => keys.token(&named.pointer, class, &scalar(text)),
                });
                Fate::Shown(made.unwrap_or_else(|| fixed(class).to_owned()))
            }
            _ if text.len() > JSON_SCALAR_BYTES_MAX => Fate::Shown(fixed(class).to_owned()),
            _ => Fate::Shown(strategy.mask(class, text)),
        })
    }

    pub(super) fn finish(self) -> Captures {
        Captures::new(self.captures)
    }
}

fn scalar(text: &str) -> Scalar {
    if text.len() > JSON_SCALAR_BYTES_MAX {
        let sha256 = Sha256::digest(text).into();
        return Scalar::TooLong { len: text.len() as u64, sha256 };
    }
    Scalar::Text(Zeroizing::new(text.to_owned()))
}
