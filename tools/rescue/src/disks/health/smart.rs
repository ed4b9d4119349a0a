//! What `smartctl --json` and `nvme smart-log` say, come to a verdict.

use super::{Health, Verdict};
use serde_json::Value;

/// ATA attributes that count sectors gone bad: reallocated, pending, uncorrectable.
const BAD_SECTORS: [(u64, &str); 3] = [(5, "reallocated"), (197, "pending"), (198, "uncorrectable")];

/// Reads smartctl's JSON.
pub fn of_smartctl(json: &[u8]) -> Health {
    let told: Value = serde_json::from_slice(json).unwrap_or_default();
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64);
    let passed = told.pointer("/smart_status/passed").and_then(Value::as_bool);
    let mut figures = Figures::default();
    figures.nvme(|name| {
        let name = match name {
            "percent_used" => "percentage_used",
            "avail_spare" => "available_spare",
            other => other,
        };
        number(&format!("/nvme_smart_health_information_log/{name}"))
    });
    for (id, word) in BAD_SECTORS {
        let rows = told
            .pointer("/ata_smart_attributes/table")
            .and_then(Value::as_array);
        let row = rows
            .into_iter()
            .flatten()
            .find(|row| row.get("id").and_then(Value::as_u64) == Some(id));
        let count = row
            .and_then(|row| row.pointer("/raw/value"))
            .and_then(Value::as_u64);
        figures.count(count.unwrap_or(0), &format!("{word} sectors"));
    }
    figures.temperature(number("/temperature/current"));
    if let Some(hours) = number("/power_on_time/hours") {
        figures.says.push(format!("{hours} h on"));
    }
    match passed {
        Some(false) => {
            figures.verdict = Verdict::Failing;
            figures.says.insert(0, "its own test says it fails".to_owned());
        }
        Some(true) => figures.verdict = figures.verdict.max(Verdict::Good),
        None => {}
    }
    if figures.says.is_empty() && passed.is_none() {
        let messages = told
            .pointer("/smartctl/messages/0/string")
            .and_then(Value::as_str);
        figures
            .says
            .push(messages.unwrap_or("it does not say").to_owned());
    }
    figures.health("smartctl")
}

/// Reads the JSON of nvme.
pub fn of_nvme(json: &[u8]) -> Health {
    let told: Value = serde_json::from_slice(json).unwrap_or_default();
    let number = |name: &str| told.get(name).and_then(Value::as_u64);
    let mut figures = Figures::default();
    figures.nvme(number);
    // In kelvins there.
    figures.temperature(number("temperature").and_then(|kelvin| kelvin.checked_sub(273)));
    if figures.says.is_empty() {
        figures.says.push("it does not say".to_owned());
    }
    figures.health("nvme")
}

struct Figures {
    verdict: Verdict,
    says: Vec<String>,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            verdict: Verdict::Unknown,
            says: Vec::new(),
        }
    }
}

impl Figures {
    /// The log page of the NVMe specification, section "SMART / Health Information".
    fn nvme(&mut self, number: impl Fn(&str) -> Option<u64>) {
        let Some(warning) = number("critical_warning") else {
            return;
        };
        self.verdict = Verdict::Good;
        // Bit 1 is temperature alone: hot is not dying.
        for (bit, word) in [
            (0, "its spare blocks run out"),
            (1, "it is too hot or too cold"),
            (2, "it is not reliable any more"),
            (3, "it can only be read any more"),
            (4, "its backup power has failed"),
        ] {
            if warning >> bit & 1 == 1 {
                let weight = if bit == 1 { Verdict::Worn } else { Verdict::Failing };
                self.verdict = self.verdict.max(weight);
                self.says.push(word.to_owned());
            }
        }
        if let Some(used) = number("percent_used") {
            if used >= 100 {
                self.verdict = self.verdict.max(Verdict::Worn);
            }
            self.says.push(format!("{used} % of its life used"));
        }
        if let Some(spare) = number("avail_spare").filter(|spare| *spare < 100) {
            self.says.push(format!("{spare} % of its spare blocks left"));
        }
        self.count(number("media_errors").unwrap_or(0), "media errors");
    }

    fn count(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.verdict = self.verdict.max(Verdict::Worn);
            self.says.push(format!("{count} {what}"));
        }
    }

    fn temperature(&mut self, celsius: Option<u64>) {
        if let Some(celsius) = celsius.filter(|celsius| (1..150).contains(celsius)) {
            self.says.push(format!("{celsius} °C"));
        }
    }

    fn health(self, by: &'static str) -> Health {
        Health {
            verdict: self.verdict,
            says: self.says.join(", "),
            by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_nvme_is_told_from_a_good_one_by_its_warning() {
        let told = |warning: u64| {
            let json = format!(
                r#"{{"smart_status":{{"passed":{}}},"nvme_smart_health_information_log":{{"critical_warning":{warning},
                "percentage_used":3,"available_spare":100,"media_errors":0}},"temperature":{{"current":41}}}}"#,
                warning == 0
            );
            of_smartctl(json.as_bytes())
        };
        assert_eq!(told(0).verdict, Verdict::Good);
        assert_eq!(told(0).says, "3 % of its life used, 41 °C");
        assert_eq!(told(4).verdict, Verdict::Failing);
        assert!(told(4).says.contains("not reliable"), "{}", told(4).says);
    }

    #[test]
    fn bad_sectors_are_wear_even_where_the_disk_says_that_it_is_well() {
        let told = |pending: u64| {
            let json = format!(
                r#"{{"smart_status":{{"passed":true}},"power_on_time":{{"hours":9}},"ata_smart_attributes":{{"table":[
                {{"id":5,"raw":{{"value":0}}}},{{"id":197,"raw":{{"value":{pending}}}}}]}}}}"#
            );
            of_smartctl(json.as_bytes())
        };
        assert_eq!(told(0).verdict, Verdict::Good);
        assert_eq!(
            (told(8).verdict, told(8).says.as_str()),
            (Verdict::Worn, "8 pending sectors, 9 h on")
        );
    }

    #[test]
    fn nvme_cli_says_the_same_in_its_own_words() {
        let told = of_nvme(br#"{"critical_warning":0,"temperature":314,"avail_spare":90,"percent_used":101,"media_errors":2}"#);
        assert_eq!(told.verdict, Verdict::Worn);
        assert_eq!(
            told.says,
            "101 % of its life used, 90 % of its spare blocks left, 2 media errors, 41 °C"
        );
    }

    #[test]
    fn what_is_no_answer_is_unknown() {
        for text in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"smart_status":{"passed":"yes"}}"#,
            r#"{"ata_smart_attributes":{"table":{}}}"#,
        ] {
            assert_eq!(of_smartctl(text.as_bytes()).verdict, Verdict::Unknown, "{text}");
            assert_eq!(of_nvme(text.as_bytes()).verdict, Verdict::Unknown, "{text}");
        }
        let said = of_smartctl(br#"{"smartctl":{"messages":[{"string":"Unable to detect device type"}]}}"#);
        assert_eq!(said.says, "Unable to detect device type");
    }
}
