//! What a retention policy keeps.
//!
//! ```text
//! newest first:  n n n │ d   d   d │ w           w │ m        …
//! keep 3 last ───┘     │ └ the newest of each of so many days, weeks, months
//! ```
//!
//! Invariant: a policy that says nothing keeps everything.
//! Invariant: a snapshot that lacks a component evicts none: it is kept where a whole one would be, and counts for nothing.
//! Never here: groups, pins, and snapshots whose time is not believed (see `plan`).

use jiff::civil::DateTime;
use jiff::{Span, Zoned};

/// How many periods of a class are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// At most so many, the newest first; of 0 none.
    #[default]
    None,
    /// The newest so many.
    Newest(u32),
    /// All of them.
    All,
}

/// The classes of snapshots: of each period the newest one stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Each snapshot for itself.
    Last,
    /// The newest of an hour.
    Hourly,
    /// The newest of a day.
    Daily,
    /// The newest of a week by ISO 8601, which begins on Monday.
    Weekly,
    /// The newest of a month.
    Monthly,
    /// The newest of a quarter of a year.
    Quarterly,
    /// The newest of a year.
    Yearly,
}

/// A period of a class: equal for two snapshots of the same one.
type Period = (i16, i16, i8);

impl Class {
    /// All of them, from the shortest period on.
    pub const ALL: [Self; 7] =
        [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Quarterly, Self::Yearly];

    /// As people call it: `daily`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Quarterly => "quarterly",
            Self::Yearly => "yearly",
        }
    }

    /// The period that `at`, by the clock on the wall, is in; none if each moment is its own.
    fn period(self, at: DateTime) -> Option<Period> {
        let (year, month) = (at.year(), at.month());
        match self {
            Self::Last => None,
            Self::Hourly => Some((year, at.day_of_year(), at.hour())),
            Self::Daily => Some((year, at.day_of_year(), 0)),
            Self::Weekly => Some((at.date().iso_week_date().year(), 0, at.date().iso_week_date().week())),
            Self::Monthly => Some((year, 0, month)),
            Self::Quarterly => Some((year, 0, (month - 1) / 3)),
            Self::Yearly => Some((year, 0, 0)),
        }
    }
}

/// What is kept of each group.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// How many periods of each class.
    pub counts: Vec<(Class, Count)>,
    /// The newest of each period of a class, as far back from the group's newest snapshot.
    pub within: Vec<(Class, Span)>,
    /// Snapshots that have all tags of any of these lists.
    pub tags: Vec<Vec<String>>,
}

/// A snapshot as a policy sees it.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// When it began, by the clock on the wall.
    pub(super) at: Zoned,
    /// Its tags.
    pub(super) tags: &'a [String],
    /// No component of it failed.
    pub(super) is_whole: bool,
}

/// One rule of a policy while it walks through a group.
struct Rule {
    class: Class,
    /// How many more; none of it is a limit.
    left: Count,
    /// Only what began after this.
    after: Option<Zoned>,
    last: Option<Period>,
    reason: String,
}

impl Rule {
    /// Whether it keeps the next older snapshot. The oldest of all is kept while the rule has any left:
    /// what it stands for may have no newer one.
    fn keeps(&mut self, member: &Member<'_>, is_oldest: bool) -> bool {
        if self.left == Count::None || self.after.as_ref().is_some_and(|after| member.at <= *after) {
            return false;
        }
        let period = self.class.period(member.at.datetime());
        let is_new = period.is_none() || period != self.last;
        if !is_new && !is_oldest {
            return false;
        }
        if !member.is_whole {
            return true;
        }
        self.last = period;
        self.left = match self.left {
            Count::Newest(left) if left > 1 => Count::Newest(left - 1),
            Count::All => Count::All,
            Count::None | Count::Newest(_) => Count::None,
        };
        true
    }
}

impl Policy {
    /// Whether it says nothing, and so keeps everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts_nothing = self.counts.iter().all(|(_, count)| matches!(count, Count::None | Count::Newest(0)));
        counts_nothing && self.within.is_empty() && self.tags.is_empty()
    }

    /// Why each snapshot of a group is kept, in their order, which is newest first: no reason, not kept. `now` bounds what
    /// counts as the newest: a snapshot of the future shifts no span.
    pub(super) fn reasons(&self, group: &[Member<'_>], now: &Zoned) -> Vec<Vec<String>> {
        if self.is_empty() {
            return group.iter().map(|_| vec!["the policy is empty".to_owned()]).collect();
        }
        let newest = group.iter().map(|member| &member.at).find(|at| *at <= now);
        let mut rules = self.rules(newest.unwrap_or(now));
        let last = group.len().saturating_sub(1);
        let reasons = group.iter().enumerate().map(|(place, member)| {
            let lacks = if member.is_whole { "" } else { ", which lacks a component" };
            let kept = rules
                .iter_mut()
                .filter_map(|rule| rule.keeps(member, place == last).then(|| format!("{}{lacks}", rule.reason)));
            kept.chain(self.tags.iter().filter_map(|wanted| tagged(wanted, member.tags))).collect()
        });
        reasons.collect()
    }

    fn rules(&self, newest: &Zoned) -> Vec<Rule> {
        let counted = self.counts.iter().filter(|(_, count)| *count != Count::Newest(0));
        let counted = counted.map(|(class, left)| {
            let reason = format!("{} snapshot", class.name());
            Rule { class: *class, left: *left, after: None, last: None, reason }
        });
        let within = self.within.iter().map(|(class, span)| {
            // A span beyond all calendars has no beginning.
            let after = newest.checked_sub(*span).ok();
            let which = if *class == Class::Last { String::new() } else { format!("{} ", class.name()) };
            let reason = format!("{which}within {span:#}");
            Rule { class: *class, left: Count::All, after, last: None, reason }
        });
        counted.chain(within).collect()
    }
}

fn tagged(wanted: &[String], tags: &[String]) -> Option<String> {
    let has_all = wanted.iter().all(|tag| tags.contains(tag));
    has_all.then(|| format!("tagged {}", wanted.join(" and ")))
}
