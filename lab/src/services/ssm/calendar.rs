//! Change Calendars: iCalendar documents that say when an account is open for changes.
//!
//! Understood are events with a start and an end or duration, by day or by time, in any time zone; `RRULE` by day,
//! week, month and year; `EXDATE`. What is not understood is refused, so that no calendar is open by mistake.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// How far a calendar looks ahead for its next change.
const HORIZON_DAYS: i64 = 366;

/// Whether changes may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closed,
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }

    const fn opposite(self) -> Self {
        match self {
            Self::Open => Self::Closed,
            Self::Closed => Self::Open,
        }
    }
}

/// A calendar.
#[derive(Debug)]
pub(crate) struct Calendar {
    default: State,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    start: Moment,
    length: SignedDuration,
    rule: Option<Rule>,
    without: Vec<DateTime>,
}

/// A time as a calendar on the wall says it, and where that wall is.
#[derive(Debug, Clone)]
struct Moment {
    at: DateTime,
    zone: TimeZone,
    whole_day: bool,
    utc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// The last time that an event comes again at.
#[derive(Debug, Clone, Copy)]
enum Until {
    Instant(Timestamp),
    /// Where the event is.
    Local(DateTime),
}

#[derive(Debug)]
struct Rule {
    frequency: Frequency,
    every: i64,
    count: Option<usize>,
    until: Option<Until>,
    /// Weekdays; in a month also the n-th of them, from the end when negative.
    days: Vec<(Option<i8>, Weekday)>,
    days_of_month: Vec<i8>,
    months: Vec<i8>,
}

/// The state of several calendars at a time, and when it changes next: open when all of them are.
pub(crate) fn state(calendars: &[&Calendar], at: Timestamp) -> (State, Option<Timestamp>) {
    let horizon = at + SignedDuration::from_hours(24 * HORIZON_DAYS);
    let spans: Vec<Vec<(Timestamp, Timestamp)>> = calendars.iter().map(|calendar| calendar.spans(horizon)).collect();
    let state_at = |when: Timestamp| {
        let open = calendars.iter().zip(&spans).all(|(calendar, spans)| {
            let during = spans.iter().any(|(start, end)| *start <= when && when < *end);
            State::Open == if during { calendar.default.opposite() } else { calendar.default }
        });
        if open { State::Open } else { State::Closed }
    };
    let now = state_at(at);
    let edges: BTreeSet<Timestamp> = spans.iter().flatten().flat_map(|(start, end)| [*start, *end]).collect();
    let next = edges.range(at..).copied().find(|edge| *edge > at && state_at(*edge) != now);
    (now, next)
}

impl Calendar {
    /// Reads a calendar; the error is AWS's `InvalidDocumentContent` message.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut default = None;
        let mut events = Vec::new();
        let mut current: Option<Draft> = None;
        let lines = unfolded(text);
        if lines.first().map(String::as_str) != Some("BEGIN:VCALENDAR")
            || lines.last().map(String::as_str) != Some("END:VCALENDAR")
        {
            return Err("the content is not an iCalendar object".to_owned());
        }
        for line in &lines {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("`{line}` is no property"))?;
            let mut parts = name.split(';');
            let key = parts.next().unwrap_or_default().to_ascii_uppercase();
            let zone = parts.find_map(|part| part.strip_prefix("TZID="));
            match (key.as_str(), value, current.as_mut()) {
                ("BEGIN", "VEVENT", None) => current = Some(Draft::default()),
                ("END", "VEVENT", Some(_)) => events.extend(current.take().map(Draft::finish).transpose()?),
                ("X-CALENDAR-TYPE", "DEFAULT_OPEN", _) => default = Some(State::Open),
                ("X-CALENDAR-TYPE", "DEFAULT_CLOSED", _) => default = Some(State::Closed),
                ("X-CALENDAR-TYPE", other, _) => return Err(format!("X-CALENDAR-TYPE `{other}` is not known")),
                ("DTSTART", value, Some(event)) => event.start = Some(Moment::parse(value, zone)?),
                ("DTEND", value, Some(event)) => event.end = Some(Moment::parse(value, zone)?),
                ("DURATION", value, Some(event)) => event.duration = Some(duration(value)?),
                ("RRULE", value, Some(event)) => event.rule = Some(Rule::parse(value)?),
                ("EXDATE", value, Some(event)) => {
                    for one in value.split(',') {
                        event.without.push(Moment::parse(one, zone)?.at);
                    }
                }
                ("RDATE" | "RECURRENCE-ID", ..) => return Err(format!("the lab's calendars have no {key}")),
                _ => {}
            }
        }
        let default = default.ok_or("X-CALENDAR-TYPE is missing: DEFAULT_OPEN or DEFAULT_CLOSED")?;
        Ok(Self { default, events })
    }

    /// When its events are, up to the horizon.
    fn spans(&self, horizon: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        self.events.iter().flat_map(|event| event.spans(horizon)).collect()
    }
}

#[derive(Default)]
struct Draft {
    start: Option<Moment>,
    end: Option<Moment>,
    duration: Option<SignedDuration>,
    rule: Option<Rule>,
    without: Vec<DateTime>,
}

impl Draft {
    fn finish(self) -> Result<Event, String> {
        let start = self.start.ok_or("an event has no DTSTART")?;
        let length = match (self.end, self.duration) {
            (Some(end), _) => end.instant()?.timestamp().duration_since(start.instant()?.timestamp()),
            (None, Some(duration)) => duration,
            (None, None) if start.whole_day => SignedDuration::from_hours(24),
            (None, None) => return Err("an event has neither DTEND nor DURATION".to_owned()),
        };
        if length <= SignedDuration::ZERO {
            return Err("an event ends before it starts".to_owned());
        }
        Ok(Event { start, length, rule: self.rule, without: self.without })
    }
}

impl Event {
    fn spans(&self, horizon: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let (first, time) = (self.start.at.date(), self.start.at.time());
        let mut spans = Vec::new();
        let mut seen = 0;
        let mut date = first;
        loop {
            let fits = match &self.rule {
                Some(rule) => date == first || rule.fits(first, date),
                None => date == first,
            };
            let at = date.to_datetime(time);
            let Ok(start) = at.to_zoned(self.start.zone.clone()).map(|zoned| zoned.timestamp()) else { break };
            let over = self.rule.as_ref().is_some_and(|rule| {
                rule.until.is_some_and(|until| until.is_before(at, start))
                    || rule.count.is_some_and(|count| seen >= count)
            });
            if over || start > horizon {
                break;
            }
            if fits {
                seen += 1;
                if !self.without.iter().any(|other| *other == at || other.date() == at.date() && self.start.whole_day) {
                    spans.push((start, start + self.length));
                }
            }
            match date.tomorrow() {
                Ok(next) if self.rule.is_some() => date = next,
                _ => break,
            }
        }
        spans
    }
}

impl Moment {
    /// `20260101T120000Z`, `20260101T120000` or `20260101`.
    fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time");
        let (text_only, utc) = text.strip_suffix('Z').map_or((text, false), |rest| (rest, true));
        let zone = match zone {
            Some(name) if !utc => TimeZone::get(name).map_err(|_| format!("`{name}` is no time zone"))?,
            _ => TimeZone::UTC,
        };
        let whole_day = !text_only.contains('T');
        let at = if whole_day {
            Date::strptime("%Y%m%d", text_only).map_err(|_| wrong())?.to_datetime(jiff::civil::Time::midnight())
        } else {
            DateTime::strptime("%Y%m%dT%H%M%S", text_only).map_err(|_| wrong())?
        };
        Ok(Self { at, zone, whole_day, utc })
    }

    fn instant(&self) -> Result<Zoned, String> {
        self.at.to_zoned(self.zone.clone()).map_err(|error| error.to_string())
    }
}

impl Until {
    fn is_before(self, at: DateTime, instant: Timestamp) -> bool {
        match self {
            Self::Instant(end) => end < instant,
            Self::Local(end) => end < at,
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let mut rule = Self {
            frequency: Frequency::Daily,
            every: 1,
            count: None,
            until: None,
            days: Vec::new(),
            days_of_month: Vec::new(),
            months: Vec::new(),
        };
        let mut frequency = None;
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let wrong = || format!("the lab does not understand `{part}` in an RRULE");
            let numbers = |value: &str| {
                value.split(',').map(|one| one.parse::<i8>().map_err(|_| wrong())).collect::<Result<Vec<_>, _>>()
            };
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            match name {
                "FREQ" => {
                    frequency = Some(match value {
                        "DAILY" => Frequency::Daily,
                        "WEEKLY" => Frequency::Weekly,
                        "MONTHLY" => Frequency::Monthly,
                        "YEARLY" => Frequency::Yearly,
                        _ => return Err(wrong()),
                    });
                }
                "INTERVAL" => rule.every = value.parse().ok().filter(|every| *every > 0).ok_or_else(wrong)?,
                "COUNT" => rule.count = Some(value.parse().map_err(|_| wrong())?),
                "UNTIL" => {
                    let until = Moment::parse(value, None)?;
                    rule.until = Some(if until.utc {
                        Until::Instant(until.instant()?.timestamp())
                    } else if until.whole_day {
                        // A day counts to its end.
                        Until::Local(until.at.checked_add(1.day()).map_err(|_| wrong())?)
                    } else {
                        Until::Local(until.at)
                    });
                }
                "BYDAY" => {
                    rule.days = value.split(',').map(|day| weekday(day).ok_or_else(wrong)).collect::<Result<_, _>>()?
                }
                "BYMONTHDAY" => rule.days_of_month = numbers(value)?,
                "BYMONTH" => rule.months = numbers(value)?,
                "WKST" if value == "MO" || value == "SU" => {}
                _ => return Err(wrong()),
            }
        }
        rule.frequency = frequency.ok_or("an RRULE has no FREQ")?;
        Ok(rule)
    }

    fn fits(&self, first: Date, date: Date) -> bool {
        let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        let days = i64::from((date - first).get_days());
        let weeks = (days + i64::from(first.weekday().to_monday_zero_offset())).div_euclid(7);
        let apart = match self.frequency {
            Frequency::Daily => days,
            Frequency::Weekly => weeks,
            Frequency::Monthly => months(date) - months(first),
            Frequency::Yearly => i64::from(date.year() - first.year()),
        };
        let in_month = self.months.is_empty() || self.months.contains(&date.month());
        let ordinal = |nth: i8| match nth {
            1.. => (date.day() - 1) / 7 + 1 == nth,
            _ => (date.days_in_month() - date.day()) / 7 + 1 == -nth,
        };
        let day = if !self.days.is_empty() {
            self.days.iter().any(|(nth, day)| *day == date.weekday() && nth.is_none_or(ordinal))
        } else if !self.days_of_month.is_empty() {
            let from_end = date.day() - date.days_in_month() - 1;
            self.days_of_month.iter().any(|day| *day == date.day() || *day == from_end)
        } else {
            match self.frequency {
                Frequency::Daily => true,
                Frequency::Weekly => date.weekday() == first.weekday(),
                Frequency::Monthly => date.day() == first.day(),
                Frequency::Yearly => {
                    date.day() == first.day() && (!self.months.is_empty() || date.month() == first.month())
                }
            }
        };
        apart % self.every == 0 && in_month && day
    }
}

/// `MO`, `1MO`, `-1FR`.
fn weekday(text: &str) -> Option<(Option<i8>, Weekday)> {
    let (ordinal, name) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let day = match name {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    };
    let ordinal = match ordinal {
        "" => None,
        number => Some(number.parse().ok().filter(|nth: &i8| *nth != 0)?),
    };
    Some((ordinal, day))
}

/// `PT1H30M`, `P1D`, `P2W`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no duration");
    let mut rest = text.strip_prefix('P').ok_or_else(wrong)?;
    let mut seconds = 0_i64;
    while !rest.is_empty() {
        rest = rest.trim_start_matches('T');
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let mut unit = unit.chars();
        let of_unit = match unit.next() {
            Some('W') => 604_800,
            Some('D') => 86_400,
            Some('H') => 3_600,
            Some('M') => 60,
            Some('S') => 1,
            _ => return Err(wrong()),
        };
        seconds += number.saturating_mul(of_unit);
        rest = unit.as_str();
    }
    Ok(SignedDuration::from_secs(seconds))
}

/// Lines, those that were folded in one.
fn unfolded(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn calendar(kind: &str, events: &str) -> Result<Calendar, String> {
        Calendar::parse(&format!(
            "BEGIN:VCALENDAR\r\nPRODID:-//AWS//Change Calendar 1.0//EN\r\nVERSION:2.0\r\nX-CALENDAR-TYPE:{kind}\r\nX-WR-CALDESC:t\r\n{events}END:VCALENDAR\r\n"
        ))
    }

    fn event(lines: &str) -> String {
        format!(
            "BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:Busy:\r\n  very\r\n{lines}\r\nEND:VEVENT\r\n"
        )
    }

    fn told(calendars: &[&Calendar], at: &str) -> (&'static str, Option<String>) {
        let (state, next) = state(calendars, at.parse().unwrap());
        (state.as_str(), next.map(|next| next.to_string()))
    }

    fn at(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_event_closes_an_open_calendar_and_opens_a_closed_one() {
        let freeze = event("DTSTART:20260101T120000Z\r\nDTEND:20260101T130000Z");
        let open = calendar("DEFAULT_OPEN", &freeze).unwrap();
        assert_eq!(told(&[&open], "2026-01-01T11:59:59Z"), ("OPEN", at("2026-01-01T12:00:00Z")));
        assert_eq!(told(&[&open], "2026-01-01T12:00:00Z"), ("CLOSED", at("2026-01-01T13:00:00Z")));
        assert_eq!(told(&[&open], "2026-01-01T13:00:00Z"), ("OPEN", None));
        let closed = calendar("DEFAULT_CLOSED", &freeze).unwrap();
        assert_eq!(told(&[&closed], "2026-01-01T12:30:00Z"), ("OPEN", at("2026-01-01T13:00:00Z")));
        assert_eq!(told(&[&closed], "2026-01-01T13:30:00Z"), ("CLOSED", None));
        assert_eq!(told(&[&open, &closed], "2026-01-01T12:30:00Z").0, "CLOSED", "all of them must be open");
    }

    #[test]
    fn an_event_lasts_through_one_that_begins_in_it() {
        let two =
            event("DTSTART:20260101T120000Z\r\nDURATION:PT2H") + &event("DTSTART:20260101T130000Z\r\nDURATION:PT1H30M");
        let open = calendar("DEFAULT_OPEN", &two).unwrap();
        assert_eq!(told(&[&open], "2026-01-01T12:30:00Z"), ("CLOSED", at("2026-01-01T14:30:00Z")));
    }

    #[test]
    fn events_come_again_at_the_local_time_of_their_zone() {
        let weekend = "DTSTART;TZID=America/New_York:20260228T000000\r\nDURATION:P1D\r\nRRULE:FREQ=WEEKLY;BYDAY=SA,SU";
        let open = calendar("DEFAULT_OPEN", &event(weekend)).unwrap();
        assert_eq!(told(&[&open], "2026-03-06T12:00:00Z"), ("OPEN", at("2026-03-07T05:00:00Z")));
        // Daylight saving began on the 8th.
        assert_eq!(told(&[&open], "2026-03-13T12:00:00Z"), ("OPEN", at("2026-03-14T04:00:00Z")));
        assert_eq!(told(&[&open], "2026-03-14T12:00:00Z"), ("CLOSED", at("2026-03-16T04:00:00Z")));
    }

    #[test]
    fn rules_count_end_skip_and_know_the_days_of_a_month() {
        let at_next = |rule: &str, from: &str| {
            let text = format!("DTSTART:20260105T100000Z\r\nDURATION:PT1H\r\n{rule}");
            told(&[&calendar("DEFAULT_OPEN", &event(&text)).unwrap()], from).1
        };
        assert_eq!(at_next("RRULE:FREQ=DAILY;INTERVAL=3", "2026-01-06T00:00:00Z"), at("2026-01-08T10:00:00Z"));
        assert_eq!(at_next("RRULE:FREQ=DAILY;COUNT=2", "2026-01-06T12:00:00Z"), None);
        assert_eq!(at_next("RRULE:FREQ=DAILY;UNTIL=20260106T000000Z", "2026-01-05T12:00:00Z"), None);
        let without = "RRULE:FREQ=DAILY\r\nEXDATE:20260106T100000Z";
        assert_eq!(at_next(without, "2026-01-05T12:00:00Z"), at("2026-01-07T10:00:00Z"));
        assert_eq!(at_next("RRULE:FREQ=MONTHLY;BYDAY=-1FR", "2026-01-06T00:00:00Z"), at("2026-01-30T10:00:00Z"));
        assert_eq!(at_next("RRULE:FREQ=MONTHLY;BYMONTHDAY=-1", "2026-02-01T00:00:00Z"), at("2026-02-28T10:00:00Z"));
        assert_eq!(at_next("RRULE:FREQ=YEARLY", "2026-01-06T00:00:00Z"), at("2027-01-05T10:00:00Z"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let start = "DTSTART:20260105T100000Z\r\n";
        for (kind, lines) in [
            ("DEFAULT_AJAR", ""),
            ("DEFAULT_OPEN", "DTEND:20260105T100000Z"),
            ("DEFAULT_OPEN", &format!("{start}DURATION:PT1H\r\nRRULE:FREQ=HOURLY")),
            ("DEFAULT_OPEN", &format!("{start}DURATION:PT1H\r\nRRULE:FREQ=DAILY;BYSETPOS=1")),
            ("DEFAULT_OPEN", &format!("{start}DTEND:20260104T100000Z")),
            ("DEFAULT_OPEN", "DTSTART;TZID=Atlantis:20260105T100000\r\nDURATION:PT1H"),
        ] {
            assert!(calendar(kind, &event(lines)).is_err(), "{kind} {lines}");
        }
        assert!(Calendar::parse("schemaVersion: '0.3'").is_err());
    }
}
