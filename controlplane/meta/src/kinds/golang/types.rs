//! The fields of Kubernetes' internal Go structures, as one table.
//!
//! Owns: names, order and zero values. Must not know: how they are printed. A newcomer's trap: the
//! order is that of the internal types, which is not always the order of the published ones.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a field shows when it is not set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zero {
    /// `""`
    Text,
    /// `0`
    Number,
    /// `false`
    Flag,
    /// `"0"`, a quantity
    Amount,
    /// `null`: a pointer, list or map of scalars
    Null,
    /// a structure by value
    Structure(&'static str),
    /// `null` or a structure
    Pointer(&'static str),
    /// `null` or a list of structures
    List(&'static str),
    /// no field of its own: the fields of another structure
    Inline(&'static str),
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) json: String,
    pub(super) zero: Zero,
    /// Shown by its JSON name, and left out when it is empty.
    pub(super) external: bool,
}

/// One structure a line: its name, then its fields. A field is `Name`, with `=json` where the JSON
/// name does not follow from it, then: nothing for a string, `#` number, `!` flag, `@` quantity,
/// `?` pointer, list or map of scalars, `:T` structure, `?T` pointer to one, `*T` list of them.
/// `<T>` stands for the fields of `T`; a structure marked `~` has JSON names.
const TABLE: &str = "\
PodSpec Volumes*Volume InitContainers*Container Containers*Container EphemeralContainers*EphemeralContainer RestartPolicy TerminationGracePeriodSeconds? ActiveDeadlineSeconds? DNSPolicy NodeSelector? ServiceAccountName AutomountServiceAccountToken? NodeName SecurityContext?PodSecurityContext ImagePullSecrets*LocalObjectReference Hostname Subdomain SetHostnameAsFQDN? Affinity?Affinity SchedulerName Tolerations*Toleration HostAliases*HostAlias PriorityClassName Priority? PreemptionPolicy? DNSConfig?PodDNSConfig ReadinessGates*PodReadinessGate RuntimeClassName? Overhead? EnableServiceLinks? TopologySpreadConstraints*TopologySpreadConstraint OS?PodOS SchedulingGates*PodSchedulingGate ResourceClaims*PodResourceClaim Resources?ResourceRequirements HostnameOverride? SchedulingGroup?PodSchedulingGroup
PodSecurityContext HostNetwork! HostPID! HostIPC! ShareProcessNamespace? HostUsers? SELinuxOptions?SELinuxOptions WindowsOptions?WindowsSecurityContextOptions RunAsUser? RunAsGroup? RunAsNonRoot? SupplementalGroups? SupplementalGroupsPolicy? FSGroup? FSGroupChangePolicy? Sysctls*Sysctl SeccompProfile?Profile AppArmorProfile?Profile SELinuxChangePolicy?
Volume Name <VolumeSource>
VolumeSource HostPath?HostPathVolumeSource EmptyDir?EmptyDirVolumeSource GCEPersistentDisk?GCEPersistentDisk AWSElasticBlockStore?AWSElasticBlockStore GitRepo?GitRepo Secret?SecretVolumeSource NFS?NFS ISCSI?ISCSI Glusterfs?Glusterfs PersistentVolumeClaim?PersistentVolumeClaimVolumeSource RBD?RBD Quobyte?Quobyte FlexVolume?FlexVolume Cinder?Cinder CephFS=cephfs?CephFS Flocker?Flocker DownwardAPI?DownwardAPIVolumeSource FC?FC AzureFile?AzureFile ConfigMap?ConfigMapVolumeSource VsphereVolume?Vsphere AzureDisk?AzureDisk PhotonPersistentDisk?Photon Projected?ProjectedVolumeSource PortworxVolume?Portworx ScaleIO?ScaleIO StorageOS=storageos?StorageOS CSI?CSI Ephemeral?Ephemeral Image?Image
HostPathVolumeSource Path Type?
EmptyDirVolumeSource Medium SizeLimit?
GCEPersistentDisk PDName FSType Partition# ReadOnly!
AWSElasticBlockStore VolumeID FSType Partition# ReadOnly!
GitRepo Repository Revision Directory
SecretVolumeSource SecretName Items*KeyToPath DefaultMode? Optional?
KeyToPath Key Path Mode?
NFS Server Path ReadOnly!
ISCSI TargetPortal IQN Lun# ISCSIInterface FSType ReadOnly! Portals? DiscoveryCHAPAuth=chapAuthDiscovery! SessionCHAPAuth=chapAuthSession! SecretRef?LocalObjectReference InitiatorName?
LocalObjectReference Name
Glusterfs EndpointsName=endpoints Path ReadOnly!
PersistentVolumeClaimVolumeSource ClaimName ReadOnly!
RBD CephMonitors=monitors? RBDImage=image FSType RBDPool=pool RadosUser=user Keyring SecretRef?LocalObjectReference ReadOnly!
Quobyte Registry Volume ReadOnly! User Group Tenant
FlexVolume Driver FSType SecretRef?LocalObjectReference ReadOnly! Options?
Cinder VolumeID FSType ReadOnly! SecretRef?LocalObjectReference
CephFS Monitors? Path User SecretFile SecretRef?LocalObjectReference ReadOnly!
Flocker DatasetName DatasetUUID
DownwardAPIVolumeSource Items*DownwardAPIVolumeFile DefaultMode?
DownwardAPIVolumeFile Path FieldRef?ObjectFieldSelector ResourceFieldRef?ResourceFieldSelector Mode?
ObjectFieldSelector APIVersion FieldPath
ResourceFieldSelector ContainerName Resource Divisor@
FC TargetWWNs? Lun? FSType ReadOnly! WWIDs=wwids?
AzureFile SecretName ShareName ReadOnly!
ConfigMapVolumeSource Name Items*KeyToPath DefaultMode? Optional?
Vsphere VolumePath FSType StoragePolicyName StoragePolicyID
AzureDisk DiskName DataDiskURI=diskURI CachingMode? FSType? ReadOnly? Kind?
Photon PdID FSType
ProjectedVolumeSource Sources*VolumeProjection DefaultMode?
VolumeProjection Secret?SecretProjection DownwardAPI?DownwardAPIProjection ConfigMap?SecretProjection ServiceAccountToken?ServiceAccountTokenProjection ClusterTrustBundle?ClusterTrustBundleProjection PodCertificate?PodCertificateProjection
SecretProjection Name Items*KeyToPath Optional?
DownwardAPIProjection Items*DownwardAPIVolumeFile
ServiceAccountTokenProjection Audience ExpirationSeconds# Path
ClusterTrustBundleProjection Name? SignerName? LabelSelector?LabelSelector Optional? Path
PodCertificateProjection SignerName KeyType MaxExpirationSeconds? CredentialBundlePath KeyPath CertificateChainPath UserAnnotations?
Portworx VolumeID FSType ReadOnly!
ScaleIO Gateway System SecretRef?LocalObjectReference SSLEnabled! ProtectionDomain StoragePool StorageMode VolumeName FSType ReadOnly!
StorageOS VolumeName VolumeNamespace FSType ReadOnly! SecretRef?LocalObjectReference
CSI Driver ReadOnly? FSType? VolumeAttributes? NodePublishSecretRef?LocalObjectReference
Ephemeral VolumeClaimTemplate?PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate <ObjectMeta> Spec:PersistentVolumeClaimSpec
PersistentVolumeClaimSpec AccessModes? Selector?LabelSelector Resources:VolumeResources VolumeName StorageClassName? VolumeMode? DataSource?TypedLocalObjectReference DataSourceRef?TypedObjectReference VolumeAttributesClassName?
VolumeResources Limits? Requests?
TypedLocalObjectReference APIGroup? Kind Name
TypedObjectReference APIGroup? Kind Name Namespace?
Image Reference PullPolicy
Container Name Image Command? Args? WorkingDir Ports*ContainerPort EnvFrom*EnvFromSource Env*EnvVar Resources:ResourceRequirements ResizePolicy*ContainerResizePolicy RestartPolicy? RestartPolicyRules*ContainerRestartRule VolumeMounts*VolumeMount VolumeDevices*VolumeDevice LivenessProbe?Probe ReadinessProbe?Probe StartupProbe?Probe Lifecycle?Lifecycle TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext?SecurityContext Stdin! StdinOnce! TTY!
EphemeralContainer <Container> TargetContainerName
ContainerPort Name HostPort# ContainerPort# Protocol HostIP
EnvFromSource Prefix ConfigMapRef?EnvFrom SecretRef?EnvFrom
EnvFrom Name Optional?
EnvVar Name Value ValueFrom?EnvVarSource
EnvVarSource FieldRef?ObjectFieldSelector ResourceFieldRef?ResourceFieldSelector ConfigMapKeyRef?KeySelector SecretKeyRef?KeySelector FileKeyRef?FileKeySelector
KeySelector Name Key Optional?
FileKeySelector VolumeName Path Key Optional?
ResourceRequirements Limits? Requests? Claims*ResourceClaim
ResourceClaim Name Request
ContainerResizePolicy ResourceName RestartPolicy
ContainerRestartRule Action ExitCodes?ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes Operator Values?
VolumeMount Name ReadOnly! RecursiveReadOnly? MountPath SubPath MountPropagation? SubPathExpr
VolumeDevice Name DevicePath
Probe <ProbeHandler> InitialDelaySeconds# TimeoutSeconds# PeriodSeconds# SuccessThreshold# FailureThreshold# TerminationGracePeriodSeconds?
ProbeHandler Exec?ExecAction HTTPGet?HTTPGetAction TCPSocket?TCPSocketAction GRPC?GRPCAction
ExecAction Command?
HTTPGetAction Path Port# Host Scheme HTTPHeaders*HTTPHeader
HTTPHeader Name Value
TCPSocketAction Port# Host
GRPCAction Port# Service?
Lifecycle PostStart?LifecycleHandler PreStop?LifecycleHandler StopSignal?
LifecycleHandler Exec?ExecAction HTTPGet?HTTPGetAction TCPSocket?TCPSocketAction Sleep?SleepAction
SleepAction Seconds#
SecurityContext Capabilities?Capabilities Privileged? SELinuxOptions?SELinuxOptions WindowsOptions?WindowsSecurityContextOptions RunAsUser? RunAsGroup? RunAsNonRoot? ReadOnlyRootFilesystem? AllowPrivilegeEscalation? ProcMount? SeccompProfile?Profile AppArmorProfile?Profile
Capabilities Add? Drop?
SELinuxOptions User Role Type Level
WindowsSecurityContextOptions GMSACredentialSpecName? GMSACredentialSpec? RunAsUserName? HostProcess?
Profile Type LocalhostProfile?
Sysctl Name Value
Affinity NodeAffinity?NodeAffinity PodAffinity?PodAffinity PodAntiAffinity?PodAffinity
NodeAffinity RequiredDuringSchedulingIgnoredDuringExecution?NodeSelector PreferredDuringSchedulingIgnoredDuringExecution*PreferredSchedulingTerm
NodeSelector NodeSelectorTerms*NodeSelectorTerm
NodeSelectorTerm MatchExpressions*NodeSelectorRequirement MatchFields*NodeSelectorRequirement
NodeSelectorRequirement Key Operator Values?
PreferredSchedulingTerm Weight# Preference:NodeSelectorTerm
PodAffinity RequiredDuringSchedulingIgnoredDuringExecution*PodAffinityTerm PreferredDuringSchedulingIgnoredDuringExecution*WeightedPodAffinityTerm
PodAffinityTerm LabelSelector?LabelSelector Namespaces? TopologyKey NamespaceSelector?LabelSelector MatchLabelKeys? MismatchLabelKeys?
WeightedPodAffinityTerm Weight# PodAffinityTerm:PodAffinityTerm
Toleration Key Operator Value Effect TolerationSeconds?
HostAlias IP Hostnames?
PodDNSConfig Nameservers? Searches? Options*PodDNSConfigOption
PodDNSConfigOption Name Value?
PodReadinessGate ConditionType
TopologySpreadConstraint MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector?LabelSelector MinDomains? NodeAffinityPolicy? NodeTaintsPolicy? MatchLabelKeys?
PodOS Name
PodSchedulingGate Name
PodResourceClaim Name ResourceClaimName? ResourceClaimTemplateName?
PodSchedulingGroup PodGroupName?
PodTemplateSpec <ObjectMeta> Spec:PodSpec
DeploymentStrategy Type RollingUpdate?RollingUpdateDeployment
RollingUpdateDeployment MaxUnavailable# MaxSurge#
DaemonSetUpdateStrategy Type RollingUpdate?RollingUpdateDeployment
StatefulSetUpdateStrategy Type RollingUpdate?RollingUpdateStatefulSet
RollingUpdateStatefulSet Partition# MaxUnavailable?
PodDisruptionBudgetSpec MinAvailable? Selector?LabelSelector MaxUnavailable? UnhealthyPodEvictionPolicy?
RoleRef APIGroup Kind Name
ServicePort Name Protocol AppProtocol? Port# TargetPort# NodePort#
NodeAddress Type Address
Taint Key Value Effect TimeAdded?
~LabelSelector MatchLabels? MatchExpressions*LabelSelectorRequirement
~LabelSelectorRequirement Key Operator Values?
~ObjectMeta Name GenerateName Namespace SelfLink UID ResourceVersion Generation# CreationTimestamp DeletionTimestamp DeletionGracePeriodSeconds? Labels? Annotations? OwnerReferences? Finalizers? ManagedFields?
";

static STRUCTURES: LazyLock<BTreeMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    TABLE
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let plain = name.trim_start_matches('~');
            let external = plain != name;
            Some((plain, words.map(|word| field(word, external)).collect()))
        })
        .collect()
});

/// The fields of a structure, in order.
pub(super) fn fields_of(structure: &str) -> &'static [Field] {
    STRUCTURES.get(structure).map_or(&[], Vec::as_slice)
}

fn field(word: &'static str, external: bool) -> Field {
    if let Some(inner) = word.strip_prefix('<') {
        let zero = Zero::Inline(inner.trim_end_matches('>'));
        return Field { name: inner, json: String::new(), zero, external };
    }
    let end = word.find(['#', '!', '@', '?', ':', '*']).unwrap_or(word.len());
    let (names, kind) = word.split_at(end);
    let (name, json) = match names.split_once('=') {
        Some((name, json)) => (name, json.to_owned()),
        None => (names, json_name(names)),
    };
    let of = kind.get(1..).unwrap_or("");
    let zero = match kind.chars().next() {
        None => Zero::Text,
        Some('#') => Zero::Number,
        Some('!') => Zero::Flag,
        Some('@') => Zero::Amount,
        Some(':') => Zero::Structure(of),
        Some('*') => Zero::List(of),
        Some(_) if of.is_empty() => Zero::Null,
        Some(_) => Zero::Pointer(of),
    };
    Field { name, json, zero, external }
}

/// `DNSPolicy` is `dnsPolicy`, `HostPID` is `hostPID`: the first word is put in lower case.
fn json_name(name: &str) -> String {
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let lower = if capitals > 1 && capitals < name.len() { capitals - 1 } else { capitals };
    let (head, tail) = name.split_at(lower);
    format!("{}{tail}", head.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_structure_named_is_there() {
        for (name, fields) in STRUCTURES.iter() {
            for field in fields {
                let (Zero::Structure(of) | Zero::Pointer(of) | Zero::List(of) | Zero::Inline(of)) =
                    field.zero
                else {
                    continue;
                };
                assert!(STRUCTURES.contains_key(of), "{of} in {name}");
            }
        }
    }

    #[test]
    fn json_names() {
        for (name, json) in [
            ("DNSPolicy", "dnsPolicy"),
            ("HostPID", "hostPID"),
            ("TTY", "tty"),
            ("OS", "os"),
            ("SELinuxOptions", "seLinuxOptions"),
            ("Name", "name"),
            ("FSType", "fsType"),
        ] {
            assert_eq!(json_name(name), json);
        }
    }
}
