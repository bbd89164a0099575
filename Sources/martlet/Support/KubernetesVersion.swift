/// The version of the API this program speaks.
enum KubernetesVersion {
    static let text = "v1.36.2"
}
