package manifests

import (
	"fmt"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"golang.org/x/tools/go/packages"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/controller-tools/pkg/crd"
	crdmarkers "sigs.k8s.io/controller-tools/pkg/crd/markers"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
)

// operatorAPI validates objects of the operator's kinds with the API server's code for CustomResourceDefinitions.
type operatorAPI struct {
	kinds map[schema.GroupVersionKind]servedKind
}

// servedKind is one version of a CustomResourceDefinition.
type servedKind struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator // nil if the schema has no rules
}

// newOperatorAPI generates the definitions of kinds from the operator's Go types and markers with controller-gen's code,
// like the operator's own release.
func newOperatorAPI(t *testing.T, kinds ...string) *operatorAPI {
	t.Helper()
	registry := &markers.Registry{}
	if err := crdmarkers.Register(registry); err != nil {
		t.Fatal(err)
	}
	roots, err := loader.LoadRoots("github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1")
	if err != nil {
		t.Fatal(err)
	}
	parser := &crd.Parser{Collector: &markers.Collector{Registry: registry}, Checker: &loader.TypeChecker{}}
	crd.AddKnownTypes(parser)
	for _, root := range roots {
		parser.NeedPackage(root)
	}
	api := &operatorAPI{kinds: map[schema.GroupVersionKind]servedKind{}}
	for _, kind := range kinds {
		group := schema.GroupKind{Group: monitoring.SchemeGroupVersion.Group, Kind: kind}
		parser.NeedCRDFor(group, nil)
		definition, ok := parser.CustomResourceDefinitions[group]
		if !ok {
			t.Fatalf("the operator has no kind %s", kind)
		}
		crd.FixTopLevelMetadata(definition)
		for _, version := range definition.Spec.Versions {
			api.kinds[group.WithVersion(version.Name)] = newServedKind(t, version)
		}
	}
	for _, root := range roots {
		for _, fault := range root.Errors {
			if fault.Kind != packages.TypeError { // controller-gen does not resolve imports that no schema needs
				t.Error(fault)
			}
		}
	}
	return api
}

func newServedKind(t *testing.T, version apiextensionsv1.CustomResourceDefinitionVersion) servedKind {
	t.Helper()
	var internal apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(version.Schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := structuralschema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	if faults := structuralschema.ValidateStructural(nil, structural); len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return servedKind{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// serves reports whether the operator defines the kind of u.
func (a *operatorAPI) serves(u *unstructured.Unstructured) bool {
	_, ok := a.kinds[u.GroupVersionKind()]
	return ok
}

// create processes a new object like the API server on `kubectl apply`: it rejects unknown fields, sets defaults in u, and
// validates schema, list keys and CEL rules.
func (a *operatorAPI) create(t *testing.T, u *unstructured.Unstructured) error {
	kind := a.kinds[u.GroupVersionKind()]
	_, _, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return err
	}
	unknown = append(unknown, pruning.PruneWithOptions(u.Object, kind.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields %s", strings.Join(unknown, ", "))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, kind.structural)
	if fault, _ := objectmeta.CoerceWithOptions(nil, u.Object, kind.structural, false, objectmeta.CoerceOptions{}); fault != nil {
		return fault
	}
	defaulting.Default(u.Object, kind.structural)

	faults := metavalidation.ValidateObjectMetaAccessor(u, false, metavalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	faults = append(faults, validation.ValidateCustomResource(nil, u.Object, kind.schema)...)
	faults = append(faults, objectmeta.Validate(t.Context(), nil, u.Object, kind.structural, false)...)
	faults = append(faults, listtype.ValidateListSetsAndMaps(nil, kind.structural, u.Object)...)
	if len(faults) == 0 && kind.rules != nil { // rules require an object that is valid by the schema
		faults, _ = kind.rules.Validate(t.Context(), nil, kind.structural, u.Object, nil, celconfig.RuntimeCELCostBudget)
	}
	return faults.ToAggregate()
}
