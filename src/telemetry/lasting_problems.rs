//! What fails in one part of the daemon, and since when.

use std::time::SystemTime;

use parking_lot::Mutex;

use crate::problems::Problem;

/// The problems of a part that last.
#[derive(Default)]
pub struct LastingProblems(Mutex<Vec<Lasting>>);

/// A problem that lasts.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// The problem.
    pub problem: Problem,
    /// Which file or caller has it, if several may have the same.
    pub subject: String,
    /// When it was first found.
    pub since: SystemTime,
}

impl Lasting {
    /// A problem that is found now.
    #[must_use]
    pub fn new(problem: Problem, subject: String) -> Self {
        Self {
            problem,
            subject,
            since: SystemTime::now(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.problem.code() == other.problem.code() && self.subject == other.subject
    }
}

impl LastingProblems {
    /// The problems now.
    #[must_use]
    pub fn get(&self) -> Vec<Lasting> {
        self.0.lock().clone()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Replaces the problems. One that was known before keeps its time, and gets its newer text. Returns those that are new
    /// and those that are over.
    pub fn replace(&self, mut found: Vec<Lasting>) -> (Vec<Lasting>, Vec<Lasting>) {
        let mut current = self.0.lock();
        for problem in &mut found {
            if let Some(known) = current.iter().find(|known| known.is_same(problem)) {
                problem.since = known.since;
            }
        }
        let missing_in = |all: &[Lasting], from: &[Lasting]| -> Vec<_> {
            let missing = |one: &&Lasting| !all.iter().any(|other| other.is_same(one));
            from.iter().filter(missing).cloned().collect()
        };
        let (new, over) = (missing_in(&current, &found), missing_in(&found, &current));
        *current = found;
        (new, over)
    }
}
