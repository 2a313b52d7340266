//! What the demo prints, in one of two languages.

use std::io::Write;
use std::time::Instant;

use super::setup::Setup;

/// Steps of the demo, for the progress mark.
const STEPS: usize = 6;

pub(crate) struct Say {
    chinese: bool,
    step: usize,
    lines: usize,
    failed: usize,
    since: Instant,
}

impl Say {
    pub(crate) fn new(lang: Option<&str>) -> Say {
        Say { chinese: lang == Some("zh"), step: 0, lines: 0, failed: 0, since: Instant::now() }
    }

    pub(crate) fn pick<'a>(&self, en: &'a str, zh: &'a str) -> &'a str {
        if self.chinese { zh } else { en }
    }

    pub(crate) fn title(&self, en: &str, zh: &str) {
        println!("{}\n", self.pick(en, zh));
    }

    pub(crate) fn step(&mut self, en: &str, zh: &str) {
        self.step += 1;
        println!("[{}/{STEPS}] {}", self.step, self.pick(en, zh));
        let _ = std::io::stdout().flush();
    }

    pub(crate) fn note(&self, text: &str) {
        println!("        {text}");
        let _ = std::io::stdout().flush();
    }

    /// One line of the demo: what was tried, whether it came out as expected, what was seen.
    pub(crate) fn line(&mut self, good: bool, en: &str, zh: &str, seen: &str) {
        self.lines += 1;
        self.failed += usize::from(!good);
        let mark = if good { "√" } else { "×" };
        println!("  {mark} {:>2}  {}", self.lines, self.pick(en, zh));
        for part in seen.lines() {
            println!("        {part}");
        }
        let _ = std::io::stdout().flush();
    }

    /// A line that could not be shown here, and why.
    pub(crate) fn missing(&self, en: &str, zh: &str, why: &str) {
        println!("  –     {}", self.pick(en, zh));
        println!("        {}: {why}", self.pick("could not be shown here", "此处无法演示"));
        let _ = std::io::stdout().flush();
    }

    /// Says how it went; whether every line was as expected.
    pub(crate) fn summary(&self) -> bool {
        let seconds = self.since.elapsed().as_secs_f32();
        let (lines, failed) = (self.lines, self.failed);
        if self.chinese {
            println!("\n{lines} 行中 {failed} 行不符预期，用时 {seconds:.1} 秒");
        } else {
            println!("\n{lines} lines, {failed} not as expected, {seconds:.1} s");
        }
        failed == 0
    }

    pub(crate) fn farewell(&self, setup: &Setup) {
        let port = setup.ports.gateway;
        println!("\n{}\n", self.pick("Everything stays up. Try:", "服务保持运行，可以试试："));
        println!(
            "  curl --cacert .moat-demo/pki/root.pem --cert .moat-demo/pki/teller.pem \\\n       \
             --key .moat-demo/pki/teller.key https://localhost:{port}/v1/accounts/1001"
        );
        println!("  {} status --socket .moat-demo/admin.sock", setup.program.display());
        println!("  {} audit show --dir .moat-demo/audit", setup.program.display());
        println!("\n{}", self.pick("Ctrl-C ends it.", "按 Ctrl-C 结束。"));
    }
}
