//! What PID 1 knows of the tunnels, by what their process tells, and the name of whoever comes through one.
//!
//! Everybody who does comes from a loopback address of that tunnel's own (see `rescue tunnel`), so the ssh server and the sessions
//! it reports need not know of tunnels.

use super::Init;
use lifeboot_contract::event::Event;
use lifeboot_contract::status::{TunnelState, TunnelStatus};
use std::net::{IpAddr, SocketAddr};

impl Init {
    /// Takes what a `tunnel.…` event says into the status.
    pub(super) fn learn_tunnel(&mut self, event: &Event) {
        let state = match event.name.as_str() {
            "tunnel.up" => TunnelState::Up,
            "tunnel.down" => TunnelState::Down,
            "tunnel.off" => TunnelState::Off,
            _ => return,
        };
        let bastion = event.str("bastion");
        let known = self
            .status
            .tunnels
            .iter()
            .position(|tunnel| tunnel.bastion == bastion);
        let before = known.and_then(|index| self.status.tunnels.get(index));
        let since_ms = before
            .filter(|before| before.state == state && state != TunnelState::Up)
            .map_or(event.ms, |before| before.since_ms);
        let fresh = TunnelStatus {
            bastion: bastion.to_owned(),
            state,
            since_ms,
            port: event.u64("port").and_then(|port| u16::try_from(port).ok()),
            source: event
                .str("source")
                .parse()
                .ok()
                .or_else(|| before.and_then(|before| before.source)),
            what: event.fields.get("what").map(|_| event.str("what").to_owned()),
        };
        match known.and_then(|index| self.status.tunnels.get_mut(index)) {
            Some(place) => *place = fresh,
            None => self.status.tunnels.push(fresh),
        }
    }

    /// Adds the bastion to a login that came through a tunnel.
    pub(super) fn name_origin(&self, event: Event) -> Event {
        let peer = event.str("peer").parse::<SocketAddr>();
        let through = peer
            .ok()
            .filter(|_| event.name.starts_with("ssh."))
            .and_then(|peer| through(&self.status.tunnels, peer.ip()));
        match through {
            Some(tunnel) => {
                let bastion = tunnel.bastion.clone();
                event.with("through", bastion)
            }
            None => event,
        }
    }

    /// `root from 127.84.0.1` in words that say more.
    pub(super) fn name_session(&self, who: &str) -> String {
        let named = |word: &str| {
            let tunnel = word.parse().ok().and_then(|ip| through(&self.status.tunnels, ip));
            tunnel.map_or_else(
                || word.to_owned(),
                |tunnel| format!("the tunnel to {}", tunnel.bastion),
            )
        };
        who.split(' ').map(named).collect::<Vec<_>>().join(" ")
    }
}

fn through(tunnels: &[TunnelStatus], ip: IpAddr) -> Option<&TunnelStatus> {
    tunnels.iter().find(|tunnel| tunnel.source == Some(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::event::Level;
    use lifeboot_contract::plan::Plan;

    fn event(ms: u64, name: &str) -> Event {
        Event::new(ms, Level::Info, name).with("bastion", "ops@b:22")
    }

    #[test]
    fn a_tunnels_state_and_since_when_are_known() {
        let mut init = Init::with(Plan::default());
        init.learn_tunnel(&event(5, "tunnel.down").with("what", "no route"));
        init.learn_tunnel(&event(9, "tunnel.down").with("what", "refused"));
        let down = init.status.tunnels[0].clone();
        assert_eq!(
            (down.since_ms, down.what.as_deref(), down.state),
            (5, Some("refused"), TunnelState::Down)
        );
        let up = event(20, "tunnel.up")
            .with("port", 2201)
            .with("source", "127.84.0.1");
        init.learn_tunnel(&up);
        let up = init.status.tunnels[0].clone();
        assert_eq!((up.since_ms, up.port, up.what), (20, Some(2201), None));
        init.learn_tunnel(&event(30, "tunnel.down").with("what", "cut"));
        assert_eq!(init.status.tunnels.len(), 1);
        assert_eq!((init.status.tunnels[0].port, up.source.is_some()), (None, true));
    }

    #[test]
    fn whoever_comes_through_a_tunnel_is_named_by_it_and_nobody_else() {
        let mut init = Init::with(Plan::default());
        init.learn_tunnel(&event(1, "tunnel.up").with("source", "127.84.0.1"));
        let login = |peer: &str| Event::new(2, Level::Info, "ssh.login").with("peer", peer);
        assert_eq!(
            init.name_origin(login("127.84.0.1:4711")).str("through"),
            "ops@b:22"
        );
        assert_eq!(init.name_origin(login("127.0.0.1:4711")).str("through"), "");
        assert_eq!(
            init.name_session("root from 127.84.0.1"),
            "root from the tunnel to ops@b:22"
        );
        assert_eq!(init.name_session("root from 10.0.2.2"), "root from 10.0.2.2");
    }
}
