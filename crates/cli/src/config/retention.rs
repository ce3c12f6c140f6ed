//! What a job says of how long its snapshots are kept.
//!
//! Invariant: a table that keeps nothing is a mistake, not a policy.
//! Never here: what a rule means (see the engine), and when it is carried out (see `forget`).

use engine::{Class, Count, Policy};
use schemars::JsonSchema;
use serde::Deserialize;

/// How long the snapshots of a job are kept; `backstay forget --job NAME` carries it out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// The newest N snapshots; "all" for no limit, here and below.
    last: Option<Periods>,
    /// The newest of each of the newest N hours that have one.
    hourly: Option<Periods>,
    /// The newest of each of the newest N days that have one.
    daily: Option<Periods>,
    /// The newest of each of the newest N weeks, which begin on Monday.
    weekly: Option<Periods>,
    /// The newest of each of the newest N months.
    monthly: Option<Periods>,
    /// The newest of each of the newest N quarters.
    quarterly: Option<Periods>,
    /// The newest of each of the newest N years.
    yearly: Option<Periods>,
    /// All of so long before the newest, such as "14d".
    within: Option<Period>,
    /// The newest of each hour of so long before the newest.
    within_hourly: Option<Period>,
    /// The newest of each day of so long before the newest.
    within_daily: Option<Period>,
    /// The newest of each week of so long before the newest.
    within_weekly: Option<Period>,
    /// The newest of each month of so long before the newest.
    within_monthly: Option<Period>,
    /// The newest of each quarter of so long before the newest.
    within_quarterly: Option<Period>,
    /// The newest of each year of so long before the newest.
    within_yearly: Option<Period>,
    /// Snapshots with this tag, whatever their age.
    #[serde(default)]
    tags: Vec<String>,
}

impl RetentionConfig {
    /// As the engine takes it.
    pub(crate) fn policy(&self) -> Policy {
        let counts =
            [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.quarterly, self.yearly].into_iter();
        let counts = Class::ALL.into_iter().zip(counts);
        let within = [
            self.within,
            self.within_hourly,
            self.within_daily,
            self.within_weekly,
            self.within_monthly,
            self.within_quarterly,
            self.within_yearly,
        ];
        let within = Class::ALL.into_iter().zip(within);
        Policy {
            counts: counts.filter_map(|(class, periods)| Some((class, periods?.0))).collect(),
            within: within.filter_map(|(class, period)| Some((class, period?.0))).collect(),
            tags: self.tags.iter().map(|tag| vec![tag.clone()]).collect(),
        }
    }
}

/// A count of periods, or "all".
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "NumberOrWord")]
struct Periods(Count);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum NumberOrWord {
    Number(u32),
    Word(String),
}

impl TryFrom<NumberOrWord> for Periods {
    type Error = String;

    fn try_from(given: NumberOrWord) -> Result<Self, String> {
        match given {
            NumberOrWord::Number(number) => Ok(Self(Count::Newest(number))),
            NumberOrWord::Word(word) if word == "all" => Ok(Self(Count::All)),
            NumberOrWord::Word(word) => Err(format!("\"{word}\" is no count: write a whole number, or \"all\"")),
        }
    }
}

impl JsonSchema for Periods {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Periods".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "all" }] })
    }
}

/// A span of the calendar such as "14d", "6mo" or "7y".
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Period(pub(crate) jiff::Span);

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::words::span(&text).map(Self)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^\s*\d+\s*[a-zA-Z]+(\s*\d+\s*[a-zA-Z]+)*\s*$" })
    }
}
