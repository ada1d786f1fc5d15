//! rtc-ice.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::BytesMut;
use crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc::{
    ice::{
        agent::{Agent, agent_config::AgentConfig},
        attributes::{control::AttrControlling, priority::PriorityAttr, use_candidate::UseCandidateAttr},
        candidate::{CandidateConfig, CandidateType, candidate_host::CandidateHostConfig},
        mdns::MulticastDnsMode,
        network_type::NetworkType,
    },
    sansio::Protocol as _,
};
use shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use stun::{
    attributes::ATTR_USERNAME,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId},
    textattrs::TextAttribute,
};

use super::address;

const PASSWORD: &str = "a password of 24 letters";

/// A lite agent, and a full one's checks.
struct Lite {
    agent: Agent,
    provider: Arc<dyn RTCCryptoProvider>,
    now: Instant,
}

impl Lite {
    fn begin() -> Self {
        let (now, provider) = (Instant::now(), Arc::new(AwsLcRsProvider::new()));
        let config = AgentConfig {
            lite: true,
            candidate_types: vec![CandidateType::Host],
            network_types: vec![NetworkType::Udp4],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            local_ufrag: "lite".to_owned(),
            local_pwd: PASSWORD.to_owned(),
            ..AgentConfig::default()
        };
        let mut agent = Agent::new(now, Arc::new(config), provider.clone()).unwrap();
        let host = CandidateConfig {
            network: "udp".to_owned(),
            address: address().ip().to_string(),
            port: address().port(),
            component: 1,
            ..CandidateConfig::default()
        };
        let host = CandidateHostConfig { base_config: host, ..CandidateHostConfig::default() };
        agent.add_local_candidate(host.new_candidate_host().unwrap()).unwrap();
        agent.start_connectivity_checks(now, false, "full".to_owned(), PASSWORD.to_owned()).unwrap();
        Self { agent, provider, now }
    }

    /// What it says to a check.
    fn hear_check(&mut self, nominates: bool) -> Vec<MessageType> {
        let mut setters: Vec<Box<dyn Setter>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, "lite:full".to_owned())),
            Box::new(AttrControlling(7)),
            Box::new(PriorityAttr(1 << 24)),
        ];
        if nominates {
            setters.push(Box::new(UseCandidateAttr::new()));
        }
        let crypto = self.provider.crypto();
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.to_owned(), crypto)));
        setters.push(Box::new(FINGERPRINT));
        let mut check = Message::new();
        check.build(&setters).unwrap();
        drop(setters);

        let full: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let transport = TransportContext {
            local_addr: address(),
            peer_addr: full,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = BytesMut::from(&check.raw[..]);
        self.agent.handle_read(TaggedBytesMut { now: self.now, transport, message }).unwrap();
        std::iter::from_fn(|| self.agent.poll_write()).map(|sent| kind(&sent.message)).collect()
    }
}

fn kind(datagram: &[u8]) -> MessageType {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).unwrap();
    message.typ
}

/// It answers a check, but not one that nominates; instead it makes a check of its own, which a lite agent never does.
#[test]
fn a_lite_agent_does_not_answer_a_check_that_nominates() {
    assert!(Lite::begin().hear_check(false).contains(&BINDING_SUCCESS));
    let mut lite = Lite::begin();
    for _ in 0..5 {
        assert_eq!(lite.hear_check(true), [BINDING_REQUEST]);
    }
    assert!(lite.agent.get_selected_candidate_pair().is_none());
}
