//! Time zones by their IANA names: from the machine's own database, else from the one that is compiled in.

use jiff::tz::TimeZone;

/// The zone of this name.
///
/// # Errors
/// A sentence for the manifest's author, with the name that was probably meant.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        match nearest(name, &known) {
            Some(meant) => format!("no such time zone `{name}`; did you mean `{meant}`?"),
            None => format!("no such time zone `{name}`; a name such as `Europe/Berlin` is meant"),
        }
    })
}

/// The name that was probably meant: the same but for case and separators, or the same city.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-'], "_");
    let city = |text: &str| plain(text).rsplit('/').next().unwrap_or_default().to_owned();
    let same = known.iter().find(|zone| plain(zone) == plain(name));
    same.or_else(|| known.iter().find(|zone| zone.contains('/') && city(zone) == city(name)))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;

    use super::*;

    #[test]
    fn a_zone_that_nobody_knows_says_what_was_meant() {
        for (name, why) in [
            ("europe berlin", "no such time zone `europe berlin`; a name such as `Europe/Berlin` is meant"),
            ("Berlin", "no such time zone `Berlin`; did you mean `Europe/Berlin`?"),
            ("America/New-York", "no such time zone `America/New-York`; did you mean `America/New_York`?"),
        ] {
            assert_eq!(time_zone(name).err().as_deref(), Some(why));
        }
        assert!(time_zone("UTC").is_ok());
    }

    #[test]
    fn zones_are_known_on_a_machine_that_has_no_database() {
        let bundled = TimeZoneDatabase::bundled();
        assert!(bundled.get("Europe/Berlin").is_ok() && bundled.available().count() > 400);
    }
}
