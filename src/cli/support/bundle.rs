//! The text of a support bundle: what it contains and what is missing, a table of contents, and the sections.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::secrets::Secrets;
use super::section_text::SectionText;
use crate::cli::output::escaped;
use crate::telemetry::program;

/// The notice that the command prints after it has made a bundle.
pub(super) const READ_IT: &str = "it contains no secrets, but names of hosts, files and paths, client ids, and names and \
                                  addresses of callers: read it before you send it";

/// The notice at the beginning of each bundle.
const CONTENTS: &str = "\
Not in it: client secrets, tokens, keys of callers, passwords of proxies, private keys, values of Authorization, bodies of
requests and messages, and queries.
In it: names of hosts, files and paths, client ids, names of upstreams, names and addresses of callers, identifiers of
requests, and names (not values) of environment variables.
Read it before you send it.";

/// The sections of a bundle.
pub(super) struct Bundle {
    secrets: Secrets,
    sections: Vec<Section>,
    /// The reasons why something is missing or differs, each with the titles of the sections that it concerns; without
    /// titles, it concerns all.
    gaps: Vec<(Vec<String>, String)>,
    /// The number of lines that were left out since they hold a secret.
    withheld: usize,
}

struct Section {
    title: &'static str,
    /// Where its text comes from.
    from: String,
    text: Option<String>,
}

impl Bundle {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            sections: Vec::new(),
            gaps: Vec::new(),
            withheld: 0,
        }
    }

    /// Adds reasons that concern all sections.
    pub(super) fn add_gaps(&mut self, gaps: Vec<String>) {
        for gap in gaps {
            // A line break in the name of a file would make a line of its own.
            let gap = self.cleaned(&escaped(&gap));
            self.gaps.push((Vec::new(), gap));
        }
    }

    /// Adds a section, or the reason why there is none.
    pub(super) fn add(
        &mut self,
        title: &'static str,
        from: &str,
        collected: Result<impl Into<SectionText>, String>,
    ) {
        let from = self.cleaned(from);
        let (text, gap) = match collected.map(Into::into) {
            Ok(SectionText { text, gap }) => (Some(self.cleaned(text.trim_end())), gap),
            Err(reason) => (None, Some(reason)),
        };
        let gap = gap.map(|gap| self.cleaned(&gap));
        let text = match (text, &gap) {
            (Some(text), Some(gap)) => Some(format!("{text}\n[incomplete: {gap}]")),
            (text, _) => text,
        };
        if let Some(reason) = gap {
            let title = title.to_lowercase();
            match self.gaps.iter_mut().find(|(_, known)| *known == reason) {
                Some((titles, _)) => titles.push(title),
                None => self.gaps.push((vec![title], reason)),
            }
        }
        self.sections.push(Section { title, from, text });
    }

    /// The names of the sections that have a text.
    pub(super) fn titles(&self) -> Vec<String> {
        let full = self.sections.iter().filter(|section| section.text.is_some());
        full.map(|section| section.title.to_lowercase()).collect()
    }

    /// What is missing, and why.
    pub(super) fn missing(&self) -> impl Iterator<Item = String> {
        self.gaps.iter().map(|(titles, reason)| match &titles[..] {
            [] => reason.clone(),
            titles => format!("{}: {reason}", titles.join(", ")),
        })
    }

    /// The whole text.
    pub(super) fn text(&self, now: SystemTime) -> String {
        // Writing to memory cannot fail.
        let mut head = format!(
            "Support bundle of bondgate {}, made {}\n\n{CONTENTS}\n",
            program::VERSION,
            humantime::format_rfc3339_seconds(now)
        );
        for line in self.secrets.search_report(self.withheld) {
            let _ = writeln!(head, "{line}");
        }
        head += "\nMissing:\n";
        for gap in self.missing() {
            let _ = writeln!(head, "- {gap}");
        }
        if self.gaps.is_empty() {
            head += "- nothing\n";
        }
        head += "\nContents:\n";
        let mut line = head.lines().count() + self.sections.len() + 2;
        let mut body = String::new();
        for (number, section) in (1..).zip(&self.sections) {
            let text = section.to_text(number);
            let _ = writeln!(head, "{number:2}. {:14} line {line}", section.title);
            line += text.lines().count() + 1;
            body += "\n";
            body += &text;
        }
        head + &body
    }

    /// The text without lines that hold a secret, and without control characters, which a terminal would execute.
    fn cleaned(&mut self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        for line in text.lines() {
            let line = escaped(line);
            if self.secrets.are_in(&line) {
                self.withheld += 1;
                cleaned += "[line left out: it holds a secret of the configuration]";
            } else {
                cleaned += &line;
            }
            cleaned.push('\n');
        }
        cleaned.truncate(cleaned.trim_end().len());
        cleaned
    }
}

impl Section {
    fn to_text(&self, number: usize) -> String {
        let from = match &*self.from {
            "" => String::new(),
            from => format!(" ({from})"),
        };
        let text = self.text.as_deref().unwrap_or("[missing: see the beginning]");
        let text = if text.is_empty() { "[nothing]" } else { text };
        format!("=== {number}. {}{from}\n\n{text}\n", self.title)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_table_of_contents_names_the_line_of_each_section_and_what_is_missing() {
        let mut bundle = Bundle::new(Secrets::default());
        bundle.add("Program", "", Ok("one\ntwo\n".to_owned()));
        bundle.add(
            "Status",
            "/status.json",
            Err::<String, _>("no bondgate responds".to_owned()),
        );
        bundle.add("Metrics", "", Err::<String, _>("no bondgate responds".to_owned()));
        bundle.add("Log", "in memory", Ok(String::new()));
        let text = bundle.text(UNIX_EPOCH);
        let lines: Vec<_> = text.lines().collect();
        let contents: Vec<_> = lines.iter().filter(|line| line.contains("  line ")).collect();
        assert_eq!(contents.len(), 4, "{text}");
        for (entry, title) in contents.iter().zip([
            "1. Program",
            "2. Status (/status.json)",
            "3. Metrics",
            "4. Log (in memory)",
        ]) {
            let (_, line) = entry.rsplit_once(' ').unwrap();
            let line: usize = line.parse().unwrap();
            assert_eq!(lines[line - 1], format!("=== {title}"), "{text}");
        }
        assert!(
            text.contains("\nMissing:\n- status, metrics: no bondgate responds\n"),
            "{text}"
        );
        assert_eq!(bundle.titles(), ["program", "log"]);
    }

    #[test]
    fn a_section_that_is_incomplete_has_what_was_collected_and_the_reason() {
        let mut bundle = Bundle::new(Secrets::default());
        let log = SectionText {
            text: "one\ntwo\n".to_owned(),
            gap: Some("the connection was cut".to_owned()),
        };
        bundle.add("Log", "", Ok(log));
        let text = bundle.text(UNIX_EPOCH);
        assert!(
            text.contains("\nMissing:\n- log: the connection was cut\n"),
            "{text}"
        );
        assert!(
            text.ends_with("=== 1. Log\n\none\ntwo\n[incomplete: the connection was cut]\n"),
            "{text}"
        );
        assert_eq!(bundle.titles(), ["log"]);
    }
}
