//! What is printed when the demonstration stays open: everything that a bank engineer needs to act, as lines to copy.

use super::{OUTSIDE, Scenes, title};
use crate::demo::gateway;
use crate::say;

impl Scenes {
    /// Prints how to go on by hand.
    pub fn invite(&self) {
        let (url, key) = (gateway(&self.config), &self.home.api_key);
        let config = self.home.config.display();
        let custos = std::env::current_exe().map_or_else(|_| "custos".to_owned(), |path| path.display().to_string());
        let officer = |name: &str| self.home.folder.join("officers").join(format!("{name}.key"));
        title("Open for you, until Ctrl-C: blocks keep coming. Copy these lines into another terminal");
        say(&format!("documents   {url}/docs"));
        say("\n# once in that terminal");
        say(&format!("export CUSTOS_CONFIG={config} CUSTOS_GATEWAY={url} CUSTOS_API_KEY={key}"));
        say(&format!("alias custos={custos}"));
        say("\n# money from nowhere: to an account by its key, to its id, or to any address");
        say("custos faucet alice 10 ETH");
        say("custos faucet bob 1000 TUSD");
        say("\n# what there is");
        say("curl -s $CUSTOS_GATEWAY/v1/accounts -H \"Authorization: Bearer $CUSTOS_API_KEY\"; echo");
        say(&format!(
            "curl -s $CUSTOS_GATEWAY/v1/accounts/{}/balances -H \"Authorization: Bearer $CUSTOS_API_KEY\"; echo",
            self.guest
        ));
        say("custos books");
        say("\n# a withdrawal that officers must approve (from 5 ETH on); its answer names the operation: OP=its id");
        say(&format!(
            "curl -s $CUSTOS_GATEWAY/v1/accounts/{}/withdrawals -H \"Authorization: Bearer $CUSTOS_API_KEY\" \\",
            self.guest
        ));
        say("  -H 'Idempotency-Key: \"mine-1\"' -H 'Content-Type: application/json' \\");
        say(&format!("  -d '{{\"asset\":\"ETH\",\"amount\":\"6\",\"to\":\"{OUTSIDE}\",\"fee_max\":\"0.01\"}}'; echo"));
        say("\n# what waits for officers, and two of them saying yes");
        let officers = &self.home.officer_api_key;
        say(&format!("custos approve --api-key {officers}"));
        for name in ["anna", "bert"] {
            say(&format!("custos approve $OP --api-key {officers} --officer {name} --key {}", officer(name).display()));
        }
        say("\n# where it stands and why; its whole story; is the log healthy");
        say("custos saga $OP");
        say("curl -s $CUSTOS_GATEWAY/v1/operations/$OP/story -H \"Authorization: Bearer $CUSTOS_API_KEY\"; echo");
        say(if self.on_kafka() { "custos audit" } else { "custos audit --copy" });
    }

    fn on_kafka(&self) -> bool {
        matches!(self.config.log, crate::config::LogChoice::Kafka(_))
    }
}
